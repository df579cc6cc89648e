"""Steering vectors as a lab keeps them: a folder each, with a vector for some layers and a card of where it is from.

An engine knows one as an adapter, whose id names the vector and the strength at which it is added: `steering-…@0.1`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from agentlab.engines.base import Adapter, Engine, Opened
from agentlab.errors import AgentLabError, BadConfig, BadSteering
from trainers.training import sha256

if TYPE_CHECKING:
    import torch

PREFIX = "steering-"
CARD, WEIGHTS = "card.json", "steering.safetensors"
MOST = 100.0
"""The greatest strength, forward or back: a hundred times as long as the state that it is added to."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
"""How a strength is written; what else Python takes for a number, such as 0_1, is a slip."""

Method = Literal["self-control", "mean-difference", "random"]


class SteeringConfig(BaseModel):
    """How a steering vector is made.

    Attributes:
        method: `self-control` (suffix gradients), `mean-difference` (states after steps of won games less those of lost
            ones), or `random`: a direction of the same length, for comparison.
        question: what the model is asked behind each step, to be answered by Yes or No.
        strength: how much of the length of the hidden states is added while it is made, and by default in play.
        steps: of train games, half of them of won ones if there are so many, each of another episode.
        seed: which steps, and which random direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "self-control"
    question: str = Field("Question: Was this a good move? Answer:", min_length=1, max_length=500)
    strength: float = Field(0.1, gt=0, le=MOST)
    steps: int = Field(64, ge=2, le=10_000)
    seed: int = Field(0, ge=0, lt=2**63)


class Card(BaseModel):
    """Where a steering vector is from: the base `model` with its `fingerprint`, how it was made, which `layers` (from
    0) it is added to, and from how many `steps`, each of another of the `episodes`, which were played in `envs`.
    `sha256` is of the file of its weights, and known once that is written.

    `score` is the mean suffix score of these steps, log p(Yes) − log p(No) of the question behind each: as the model is
    (`base`), as it is steered at the strength it was made for (`steered`), and as it is after steps of `won` and `lost`
    games, by which one sees whether the model knows what it is asked.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    id: str
    model: str
    fingerprint: str
    made: SteeringConfig
    layers: list[int] = Field(min_length=1)
    steps: int
    envs: list[str] = Field(min_length=1)
    episodes: list[str]
    score: dict[str, FiniteFloat]
    sha256: str = ""


def cards(root: Path, tell: Callable[[str], None]) -> list[Card]:
    """The cards of all vectors in a folder, by their ids; `tell` hears of each that is damaged, and why."""
    found = list[Card]()
    for folder in sorted(root.glob(f"{PREFIX}*")):
        if folder.is_dir():
            try:
                found.append(read_card(folder))
            except BadSteering as error:
                tell(str(error))
    return found


def read_card(folder: Path) -> Card:
    """The card of the vector in a folder. Raises BadSteering if there is none, or it cannot be read."""
    try:
        card = Card.model_validate_json((folder / CARD).read_bytes())
    except OSError as error:
        if folder.is_dir():
            raise _damaged(folder, f"its {CARD} cannot be read") from error
        raise BadSteering(
            f"There is no steering vector {folder.name} here; `agentlab steer` lists them, and makes one."
        ) from error
    except ValidationError as error:
        raise _damaged(folder, f"its {CARD} cannot be read") from error
    if card.id != folder.name:
        raise _damaged(folder, f"its {CARD} is of {card.id[:60]}")
    return card


def write(root: Path, card: Card, vectors: Mapping[int, torch.Tensor]) -> Card:
    """Keep a vector in a folder of its own: all of it, or nothing. Gives its card, which knows the file's SHA-256."""
    from safetensors.torch import save_file

    beside, target = root / f".{card.id}.partial", root / card.id
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({str(at): vector.float().cpu().contiguous() for at, vector in vectors.items()}, beside / WEIGHTS)
    card = card.model_copy(update={"sha256": sha256(beside / WEIGHTS)})
    (beside / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(beside, target)
    return card


def read_vectors(folder: Path, layers: int, width: int) -> dict[int, torch.Tensor]:
    """What is added to each layer, float32 (width,), by its number; for a model of so many layers of this width.

    Raises BadSteering if the folder's files are damaged, or were made for another model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_card(folder)
    try:
        if sha256(folder / WEIGHTS) != card.sha256:
            raise _damaged(folder, f"its {WEIGHTS} is not what was made, by its SHA-256")
        found = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, f"its {WEIGHTS} cannot be read") from error
    if set(found) != {str(at) for at in card.layers} or not all(torch.isfinite(one).all() for one in found.values()):
        raise _damaged(folder, f"its {WEIGHTS} is not what its card says")
    if not set(card.layers) <= set(range(layers)) or any(one.shape != (width,) for one in found.values()):
        raise BadSteering(
            f"{folder.name} was made for a model of another shape than {layers} layers of {width}; make one for this "
            "model with `agentlab steer`."
        )
    return {int(at): one.float() for at, one in found.items()}


def _damaged(folder: Path, why: str) -> BadSteering:
    return BadSteering(f"{folder} is damaged: {why}; delete that folder and make it again with `agentlab steer`.")


def named(root: Path, name: str, fingerprint: str = "") -> Adapter:
    """The adapter by which engines know what `steering-…`, or `steering-…@STRENGTH`, names; without, at its card's.

    Raises BadSteering if there is none of this id, or none for the base of this fingerprint; BadConfig if the strength
    is none.
    """
    id, at, given = name.partition("@")
    if not re.fullmatch(rf"{PREFIX}[a-z0-9]+", id):  # an id never becomes a path otherwise
        raise BadSteering(f"'{id[:60]}' is no id of a steering vector; `agentlab steer` lists them.")
    card = read_card(root / id)
    if fingerprint not in ("", card.fingerprint):
        raise BadSteering(
            f"{id} was made for the weights of {card.model}, and this lab plays others; make one for them with "
            "`agentlab steer`."
        )
    if not at:
        given = str(card.made.strength)
    strength = float(f"{float(given):g}") if NUMBER.fullmatch(given) else None
    if strength is None or abs(strength) > MOST:
        raise BadConfig(
            f"'{given[:40]}' is no strength for {id}; write a number from -{MOST:g} to {MOST:g}, such as {id}@0.1."
        )
    return Adapter(f"{id}@{strength:g}", root / id, strength)


def must_open(engine: Engine) -> Opened:
    """The engine, whose model lies open. Raises AgentLabError if it does not."""
    if not isinstance(engine, Opened):
        raise AgentLabError(
            f"The engine {engine.name} cannot be steered, as its hidden states are out of reach; steering is for local "
            "models (`engine` is transformers in lab.toml): choose another arm."
        )
    return engine
