"""What all selectors share: the pool, the context, and chance that belongs to an episode rather than to its place.

A selector takes a pool of episodes and a context, and returns the pool that it makes of it with the number left out for
each reason. It may drop episodes, weigh them, or weigh their steps; what an earlier one weighed, it multiplies. Its
result depends on the set of episodes, its settings and the context's seed, not on the order in which episodes come. The
ids of a pool are distinct.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, model_validator

from memory.records import Episode
from trainers.errors import CannotSelect

Start = tuple[str, str]


class Selected(BaseModel):
    """An episode to train on, and the weight of its actions in the loss.

    `step_weights` gives each step a weight of its own, by which that of the episode is multiplied; 0 turns the loss of
    a step off, as on the bad beginning of a revised episode (Yuan et al. 2025, Agent-R). None weighs all steps alike.
    `admitted` marks a revision that reached what was asked of it: it is good, also where it was not won.
    """

    model_config = ConfigDict(frozen=True)

    episode: Episode
    weight: float = 1.0
    step_weights: list[float] | None = None
    admitted: bool = False

    @model_validator(mode="after")
    def _one_weight_a_step(self) -> Selected:
        weights, steps = self.step_weights, len(self.episode.steps)
        if weights is not None and (len(weights) != steps or min(weights, default=0.0) < 0):
            raise ValueError(f"{steps} steps need as many step weights, none below 0; got {weights}")
        return self

    def times(self, factor: float) -> Selected:
        """The same, weighing `factor` times as much."""
        return self.model_copy(update={"weight": self.weight * factor})


class Text(BaseModel):
    """A general text to rehearse; only `completion` carries loss."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion: str
    prompt: str = ""

    @property
    def id(self) -> str:
        return "text-" + hashlib.sha256(f"{self.prompt}\x1f{self.completion}".encode()).hexdigest()[:12]


class Selection(BaseModel):
    """What was selected, and how many episodes were left out for which reason.

    `short_of` says of which source how many were missing; `texts` are general texts to rehearse beside the episodes.
    """

    selected: list[Selected]
    left_out: dict[str, int]
    short_of: dict[str, int] = {}
    texts: list[Text] = []


@dataclass(frozen=True)
class Context:
    """What selectors may know beyond the pool. Those that need one of the callables say so where it is missing.

    Attributes:
        seed: of all chance.
        round: the number of the round, from 1.
        improve: Improve steps since episodes were last collected (ReST), from 0.
        history: the round in which an episode was first trained on, by episode id; what is not in it is new.
        loss: the mean loss of the model that will be trained on the actions of an episode (nats a token).
        validation: trusted episodes, whose mean loss is the scale of the others'.
        passes: of an episode, a number T and a probability of dropout, the log-probabilities that T passes with dropout
            give to it being right; none where it cannot be scored.
        reaches: whether success can still be reached after each step of an episode, as a search found.
        distance: how different two episodes are; edit distance of their actions where it is not given.
        anchors: fixed episodes that every round may rehearse.
        general: general texts to rehearse, so that the model does not forget its language.
    """

    seed: int = 0
    round: int = 1
    improve: int = 0
    history: Mapping[str, int] = field(default_factory=dict)
    loss: Callable[[Episode], float] | None = None
    validation: Sequence[Episode] = ()
    passes: Callable[[Episode, int, float], Sequence[float]] | None = None
    reaches: Callable[[Episode], Sequence[bool]] | None = None
    distance: Callable[[Episode, Episode], float] | None = None
    anchors: Sequence[Episode] = ()
    general: Sequence[Text] = ()

    def need(self, name: str, kind: str) -> Any:
        """The field `name`. Raises CannotSelect if it was not given."""
        value = getattr(self, name)
        if value is None or (isinstance(value, Sequence) and not value):
            raise CannotSelect(f"the selector '{kind}' needs `Context.{name}`, which was not given; give it or drop it")
        return value


class Selector(Protocol):
    """One step of a selection: any callable of this form, with or without settings."""

    def __call__(self, pool: Sequence[Selected], context: Context, /) -> Selection: ...


class Settings(BaseModel):
    """Base of the selectors that a configuration can name, each by its `kind`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def start_of(episode: Episode) -> Start:
    """How a game begins: `(goal, first observation)`. Two tasks that begin alike may be the same game."""
    return episode.goal.strip(), episode.steps[0].observation.strip() if episode.steps else ""


def starts_of(games: Iterable[Start]) -> frozenset[Start]:
    """How these games begin, in the form of `start_of`, so that an episode can be looked for among them."""
    return frozenset((goal.strip(), observation.strip()) for goal, observation in games)


def solution(episode: Episode) -> tuple[str, Start, tuple[str, ...]]:
    """What makes two episodes the same to learn from: environment, start and actions."""
    return episode.env, start_of(episode), tuple(episode.actions)


def draw(seed: int, name: str, purpose: str = "") -> str:
    """A random hexadecimal number that belongs to a name and a seed, whatever else is in the pool.

    Draws for different purposes are independent.
    """
    return hashlib.sha256(f"{seed}:{purpose}{name}".encode()).hexdigest()


def ordered(pool: Iterable[Selected], seed: int) -> list[Selected]:
    """The pool with what is preferred first, by environment: won before relabelled, heavy before light, then the lowest
    trial (a game won late was often won by elimination), then at random."""
    return sorted(
        pool,
        key=lambda item: (
            item.episode.env,
            item.episode.relabelled_from is not None,
            -item.weight,
            item.episode.trial,
            draw(seed, item.episode.id),
            item.episode.id,
        ),
    )


def sample(weights: Mapping[str, float], count: int, seed: int, purpose: str) -> set[str]:
    """`count` names without replacement, with chances in proportion to their weights; all, if there are no more.

    By the keys of Efraimidis & Spirakis (2006), each of which depends on its own name only; weight 0 is never taken.
    """
    keys = []
    for name, weight in weights.items():
        if weight > 0:
            uniform = (int(draw(seed, name, purpose)[:13], 16) + 0.5) / 16**13
            keys.append((-math.log(uniform) / weight, name))
    return {name for _, name in sorted(keys)[: max(0, count)]}


def sift(pool: Sequence[Selected], context: Context, reason: Callable[[Selected], str | None]) -> Selection:
    """Keep the episodes for which there is no reason against them."""
    left_out: Counter[str] = Counter()
    kept = []
    for item in ordered(pool, context.seed):
        against = reason(item)
        if against is None:
            kept.append(item)
        else:
            left_out[against] += 1
    return Selection(selected=kept, left_out=dict(sorted(left_out.items())))


def chain(pool: Sequence[Selected], selectors: Iterable[Selector], context: Context) -> Selection:
    """Apply selectors one after the other; the counts add up."""
    left_out: Counter[str] = Counter()
    short_of: Counter[str] = Counter()
    texts: dict[str, Text] = {}
    selected = ordered(pool, context.seed)
    for selector in selectors:
        step = selector(selected, context)
        selected = step.selected
        left_out.update(step.left_out)
        short_of.update(step.short_of)
        texts |= {text.id: text for text in step.texts}
    return Selection(
        selected=selected,
        left_out=dict(sorted(left_out.items())),
        short_of=dict(sorted(short_of.items())),
        texts=list(texts.values()),
    )


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` split into whole numbers in proportion to `shares`, by the largest remainder (Hamilton).

    Equal remainders go to the greater share, then to the first name.
    """
    whole = math.fsum(shares.values())
    if whole <= 0:
        return dict.fromkeys(shares, 0)
    exact = {name: total * share / whole for name, share in shares.items()}
    parts = {name: math.floor(value) for name, value in exact.items()}
    order = sorted(shares, key=lambda name: (round(parts[name] - exact[name], 9), -shares[name]))
    for name in order[: total - sum(parts.values())]:
        parts[name] += 1
    return parts
