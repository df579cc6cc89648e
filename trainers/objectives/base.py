"""What an objective is: it turns the records of a job into batches, and a batch into a loss.

An objective sees the whole job once, in `prepare`, and from then on the items of one batch at a time. Those that
compare with the base get its log-probabilities with every item (see `trainers.training.baseline`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from trainers.config import JobConfig
from trainers.data.examples import Example

Inputs = dict[str, Any]
"""Tensors by name, in nested dictionaries, as transformers' Trainer moves them to a device."""


class Item(NamedTuple):
    """A record as a batch holds it.

    `base` are the log-probabilities of the base, as many as `Objective.compared` gives for a record. `mismatched` is
    KTO's: the prompt of this record with the answer of another.
    """

    record: Any
    base: tuple[float, ...] = ()
    mismatched: Example | None = None


class Cost(NamedTuple):
    """The loss of a batch, a scalar, and what was measured beside it."""

    loss: torch.Tensor
    measures: dict[str, torch.Tensor]


class Objective(ABC):
    """What one kind of job learns; `bare` is everywhere the model inside a data-parallel wrapper."""

    measures: ClassVar[tuple[str, ...]] = ()
    """The names of what is measured beside the loss."""

    in_trees: ClassVar[bool] = False
    """Whether records are laid into trees, in which a common beginning stands once, instead of into rows."""

    def __init__(self, config: JobConfig) -> None:
        self.config = config

    def prepare(self, records: Sequence[Any]) -> list[Item]:
        """The items of a whole job."""
        return [Item(record) for record in records]

    @abstractmethod
    def collate(self, items: Sequence[Item]) -> Inputs:
        """The items of one batch as tensors."""

    def mass(self, items: Sequence[Item]) -> float:
        """What the loss of these items is divided by, so that the losses of a batch's parts add up to that of it all.

        Only KTO's do not to the last bit: each part estimates its own reference point.
        """
        return float(len(items))

    @abstractmethod
    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        """The loss of a batch."""


class Comparing(Objective):
    """An objective whose loss needs what the base makes of every record."""

    @abstractmethod
    def compared(self, model: Any, inputs: Inputs, bare: Any) -> torch.Tensor:
        """The log-probabilities that policy and base are compared by; shape (items, as many as each needs)."""


def base_logprobs(items: Sequence[Item]) -> torch.Tensor:
    """The log-probabilities of the base that come with these items; shape (items, as many as each needs)."""
    return torch.tensor([item.base for item in items])
