"""Objectives: from records to batches, from batches to a loss.

`dispatch` has one class an objective (`experimental` those that no table shows to help), `losses` what they compute,
`branching` and `tree` the batches in which a common beginning stands once. All of it needs PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.doors import lazy

if TYPE_CHECKING:
    from trainers.objectives.dispatch import objective_of
    from trainers.objectives.losses import chosen_logprobs, collate, weighted_sft
    from trainers.objectives.tree import TokenTree, parts

__all__ = [
    # Log-probabilities and losses
    "chosen_logprobs",
    "collate",
    "objective_of",
    "weighted_sft",
    # Token trees
    "TokenTree",
    "parts",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.objectives.losses": ("chosen_logprobs", "collate", "weighted_sft"),
        "trainers.objectives.dispatch": ("objective_of",),
        "trainers.objectives.tree": ("TokenTree", "parts"),
    },
)
