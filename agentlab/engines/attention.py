"""Attention of many conversations in one pass: their new tokens stand in one row, and each sees its own keys alone.

In a row without padding conversations of different length cost the matrices of a layer no more than their tokens do.
Attention is computed in blocks of conversations that have about as many new tokens, with padding in a block alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agentlab.engines.slots import Slot
from trainers.training import register_attention

ROW = "conversations_of_a_row"
"""The keyword by which the blocks of a row travel to the attention."""

NAMES = {"eager": "conversing_eager", "sdpa": "conversing_sdpa"}
"""Under which transformers knows each attention; one with another is not computed in blocks."""

WASTE = 1.3
"""How many times their new tokens the conversations of a block may have with padding."""


@dataclass(frozen=True)
class Block:
    """Conversations whose attention is computed together.

    Attributes:
        slots: theirs, (conversations,), or a range that may have others between.
        keys: how many tokens the longest has with its new ones.
        width: new tokens that the longest has.
        padded: the place in the row for each place (conversations · width,) of the block; anyone for padding.
        kept: the places of the block that are theirs and no padding, in the order of the row.
        masks: what is added to the scores, (conversations, 1, width, keys), a kind of layer each.
    """

    slots: torch.Tensor | slice
    keys: int
    width: int
    padded: torch.Tensor
    kept: torch.Tensor
    masks: Sequence[torch.Tensor]


def blocks(widths: Sequence[int]) -> list[range]:
    """The conversations of a row, of which each has at least as many new tokens as the one before, in blocks."""
    found, start, tokens = [], 0, 0
    for at, width in enumerate(widths):
        if at > start and width * (at + 1 - start) > WASTE * (tokens + width):
            found.append(range(start, at))
            start, tokens = at, 0
        tokens += width
    return [*found, range(start, len(widths))]


def together(slots: Sequence[Slot], width: int) -> tuple[torch.Tensor | slice, list[int]]:
    """Which slots are read for these, of which each has up to `width` new tokens, and the row of each among them.

    A range where they nearly are one: it copies nothing, and what is computed for the slots between is not kept.
    """
    places = [slot.index for slot in slots]
    low, high = min(places), max(places) + 1
    if (high - low - len(places)) * width < len(places):
        return slice(low, high), [place - low for place in places]
    return torch.tensor(places), list(range(len(places)))


def _interface(attend: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        row: Sequence[Block] | None = options.pop(ROW, None)
        if row is None:
            alone: tuple[torch.Tensor, torch.Tensor | None] = attend(
                module, query, key, value, attention_mask, **options
            )
            return alone
        assert attention_mask is not None
        kind, tokens, outcomes = int(attention_mask), query[0].transpose(0, 1), []
        for block in row:
            asked = tokens[block.padded].unflatten(0, (-1, block.width)).transpose(1, 2)
            keys, values = (part[block.slots, :, : block.keys] for part in (key, value))
            outcome, _ = attend(module, asked, keys, values, block.masks[kind], **options)
            outcomes.append(outcome.flatten(0, 1)[block.kept])
        return torch.cat(outcomes).unsqueeze(0), None

    return forward


for _like, _name in NAMES.items():
    register_attention(_name, _like, _interface)
