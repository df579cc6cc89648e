"""Reflectors by name, as they stand in `lab.toml`, on the command line and in `Lab.run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agentlab.engines.model import Model
from agentlab.errors import UnknownReflector
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.reflectors.experimental import renze
from agentlab.reflectors.experimental.confidence import ConfidenceReflector
from agentlab.reflectors.experimental.contrast import ContrastReflector
from agentlab.reflectors.experimental.critique import CritiqueReflector
from agentlab.reflectors.experimental.debate import DebateReflector
from agentlab.reflectors.experimental.hindsight import HindsightReflector
from agentlab.reflectors.experimental.written import WrittenReflector
from agentlab.reflectors.grounded import GroundedReflector
from environments.errors import did_you_mean

Second = Callable[[], Model | None]
Factory = Callable[[Model | None, Second], Reflector]


class Entry(NamedTuple):
    """A reflector that can be asked for: `make` takes the model that plays and a call for the second one.

    `oracle` says whether its feedback comes from the environment's own score, rather than from a model's judgement. All
    but `grounded` and `exemplar` are experimental.
    """

    about: str
    oracle: bool
    make: Factory


def _renze(kind: renze.Kind) -> Factory:
    return lambda model, _: renze.RenzeReflector(model, kind)


REFLECTORS: dict[str, Entry] = {
    "grounded": Entry("facts read off the trajectory, no model", True, lambda *_: GroundedReflector()),
    "exemplar": Entry("successes, minimised, as examples", True, lambda *_: ExemplarReflector()),
    "written": Entry("a lesson after a failure", True, lambda model, _: WrittenReflector(model)),
    "contrast": Entry("several solutions contrasted", False, lambda model, _: ContrastReflector(model)),
    "critique": Entry("a critic judges the steps", False, lambda model, other: CritiqueReflector(model, other())),
    "debate": Entry("two debaters and a judge", False, lambda model, other: DebateReflector(model, other())),
    "confidence": Entry("a lesson kept if confident", False, lambda model, _: ConfidenceReflector(model)),
    "hindsight": Entry("goals that a failure did reach", True, lambda model, _: HindsightReflector(model)),
    **{kind: Entry(f"Renze & Guven's {kind}", True, _renze(kind)) for kind in renze.KINDS},
}

TEXT_KINDS = [name for name in REFLECTORS if name not in ("exemplar", "retry")]
"""The kinds of reflection whose text is advice to read; exemplars are recalled by themselves, and retry has none."""


def validate(name: str) -> str:
    """`name`, if a reflector is called so.

    Raises:
        UnknownReflector: with the nearest name.
    """
    if name not in REFLECTORS:
        raise UnknownReflector(f"No reflector is called `{name}`; {did_you_mean(name, REFLECTORS)}")
    return name


def build(asked: Sequence[str | Reflector], model: Model | None, other: Second = lambda: None) -> list[Reflector]:
    """The reflectors that `asked` names, in its order; one's own pass through.

    `model` writes (None: nobody does); what `other` gives criticises and judges. It is called only where a reflector
    has a part for it, since a second model takes time and room.

    Raises:
        UnknownReflector: for a name that none has.
    """
    return [REFLECTORS[validate(one)].make(model, other) if isinstance(one, str) else one for one in asked]
