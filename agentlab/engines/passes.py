"""Forward passes over what conversations have new: some tokens each, and a tree of commands behind them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from agentlab.engines.attention import NAMES, ROW, Block, blocks, together
from agentlab.engines.slots import CacheSlots, Slot, SlotCache
from trainers.objectives import TokenTree
from trainers.training import layer_kinds, layer_window

LOGITS = 2**26
"""Logits of one forward pass, at most: 256 MiB in float32. Where a vocabulary needs more, commands go in parts."""

TOKENS = 8192
"""New tokens of one forward pass, at most, unless one conversation alone has more."""


@dataclass(frozen=True)
class Reading:
    """What is read of a conversation: `tokens`, which its slot keeps behind what it holds, and a tree behind those."""

    slot: Slot
    tokens: Sequence[int]
    tree: TokenTree = field(default_factory=TokenTree)

    @cached_property
    def asked(self) -> list[int]:
        """The nodes of its tree whose distributions are asked for."""
        return self.tree.asked

    @property
    def width(self) -> int:
        """Tokens that are read."""
        return len(self.tokens) + len(self.tree)

    @property
    def end(self) -> int:
        """Tokens that the slot holds afterwards, those of the tree included."""
        return self.slot.length + self.width

    def positions(self) -> torch.Tensor:
        """Those of all tokens (end,) from the first on; a token's siblings in the tree have the same."""
        total = self.slot.length + len(self.tokens)
        return torch.cat([torch.arange(total), total + torch.tensor(self.tree.depths, dtype=torch.long)])

    def visible(self) -> torch.Tensor:
        """Bool (width, end): what each new token may see."""
        past, fresh = self.slot.length, len(self.tokens)
        seen = torch.ones(self.width, self.end, dtype=torch.bool)
        if self.width > 1:
            seen[:, past:] = False
            seen[:fresh, past : past + fresh] = torch.ones(fresh, fresh, dtype=torch.bool).tril()
            seen[fresh:, past : past + fresh] = True
            seen[fresh:, past + fresh :] = self.tree.visible()
        return seen


class Passes:
    """How a model, and whatever adapters make of it, reads conversations.

    `at_once` says whether it can read several in one pass; else they are read one after the other.
    """

    def __init__(self, model: Any, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.slots = CacheSlots()
        settings = model.config.get_text_config(decoder=True)
        self.vocabulary = int(settings.vocab_size)
        self.kinds, self.window = layer_kinds(settings), layer_window(settings)
        self._masked = sorted(self.kinds) or ["sliding_attention" if self.window else "full_attention"]
        # Renamed in transformers 5.24.
        names = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._chooses = "logits_to_keep" in names
        attention = NAMES.get(model.config._attn_implementation)
        self.at_once = attention is not None and bool(model._supports_attention_backend)
        if self.at_once:
            model.set_attn_implementation(attention)

    @property
    def most(self) -> int:
        """Places of which the logits may be asked in one pass."""
        return max(LOGITS // self.vocabulary, 1)

    def read(self, model: Any, readings: Sequence[Reading]) -> Iterator[tuple[int, torch.Tensor]]:
        """Read all, no two of one slot, in as many passes as they need.

        Within `torch.inference_mode`. Gives for each, by its index, log-probabilities (asked nodes, vocabulary),
        float32: at the nodes that its tree asks for, of which the end of its tokens is one (-1).
        """
        if any(reading.slot.slots is not self.slots for reading in readings):
            raise ValueError("a conversation was begun by another engine; each engine asks for its own")
        for part in self._parts(readings):
            chosen = [readings[at] for at in part]
            found = torch.log_softmax(self._pass(model, chosen), dim=-1)
            for reading in chosen:
                reading.slot.length += len(reading.tokens)
            yield from zip(part, found.split([len(reading.asked) for reading in chosen]), strict=True)

    def _parts(self, readings: Sequence[Reading]) -> list[list[int]]:
        """The readings, by their indices, of each pass: those with few new tokens first, equals by their slots."""
        parts: list[list[int]] = []
        rows = tokens = 0
        # Slots that are neighbours are read where they are, see `together`.
        for at in sorted(range(len(readings)), key=lambda at: (readings[at].width, readings[at].slot.index)):
            more, wide = len(readings[at].asked), readings[at].width
            if not parts or not self.at_once or rows + more > self.most or tokens + wide > TOKENS:
                parts.append([])
                rows = tokens = 0
            parts[-1].append(at)
            rows, tokens = rows + more, tokens + wide
        return parts

    def _pass(self, model: Any, readings: Sequence[Reading]) -> torch.Tensor:
        """Logits of the readings, one below the other."""
        self.slots.reserve(max(reading.end for reading in readings))
        rows, columns, wanted, starts = list[int](), list[int](), list[int](), [0]
        for reading in readings:
            rows += [reading.slot.index] * reading.width
            columns += range(reading.slot.length, reading.end)
            wanted += [starts[-1] + len(reading.tokens) + node for node in reading.asked]
            starts.append(starts[-1] + reading.width)
        tokens = [token for reading in readings for token in (*reading.tokens, *reading.tree.tokens)]
        positions = [reading.positions() for reading in readings]
        new = torch.cat([at[-reading.width :] for at, reading in zip(positions, readings, strict=True)])
        places = self._here(rows), self._here(columns)
        if len(readings) == 1:
            (one,), (at,) = readings, positions
            masks = self.masks(one.visible(), at)
            cache = SlotCache(self.slots, *places, (one.slot, one.end))
            return self.forward(model, tokens, new, masks, cache, self._here(wanted))
        row = [self._block(those, readings, positions, starts) for those in blocks([one.width for one in readings])]
        # What stands for the masks says which of a block's a layer is to have.
        marks = [torch.full((1, 1, 1, 1), float(at)) for at in range(len(self._masked))]
        cache = SlotCache(self.slots, *places, None)
        return self.forward(model, tokens, new, marks, cache, self._here(wanted), **{ROW: row})

    def _block(
        self, those: range, readings: Sequence[Reading], positions: Sequence[torch.Tensor], starts: Sequence[int]
    ) -> Block:
        """Some neighbours of a row, padded to the longest of them."""
        chosen = [readings[at] for at in those]
        width, keys = max(one.width for one in chosen), max(one.end for one in chosen)
        slots, rows = together([one.slot for one in chosen], width)
        many = slots.stop - slots.start if isinstance(slots, slice) else len(slots)
        visible = torch.zeros(many, width, keys, dtype=torch.bool)
        asked, known = torch.zeros(many, width, dtype=torch.long), torch.zeros(many, keys, dtype=torch.long)
        padded, kept = torch.zeros(many, width, dtype=torch.long), list[int]()
        for at, place, one in zip(rows, those, chosen, strict=True):
            visible[at, : one.width, : one.end] = one.visible()
            known[at, : one.end] = positions[place]
            asked[at, : one.width] = positions[place][-one.width :]
            padded[at, : one.width] = torch.arange(starts[place], starts[place + 1])
            kept += range(at * width, at * width + one.width)
        return Block(
            slots if isinstance(slots, slice) else slots.to(self.device),
            keys,
            width,
            padded.flatten().to(self.device),
            self._here(kept),
            [self._mask(kind, visible, asked, known) for kind in self._masked],
        )

    def _mask(self, kind: str, visible: torch.Tensor, asked: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """What is added to scores (…, 1, queries, keys): nothing where something is visible (…, queries, keys) and, in
        a layer with a window, near enough by the positions of queries and keys."""
        if kind == "sliding_attention" and self.window:
            visible = visible & (asked[..., :, None] - known[..., None, :] < self.window)
        mask = torch.zeros(visible.shape, dtype=self.dtype).masked_fill_(~visible, torch.finfo(self.dtype).min)
        return mask.unsqueeze(-3).to(self.device)

    def forward(
        self,
        model: Any,
        tokens: Sequence[int],
        positions: torch.Tensor,
        masks: Sequence[torch.Tensor],
        cache: Any,
        places: int | torch.Tensor,
        **more: Any,
    ) -> torch.Tensor:
        """Logits (places, vocabulary) of `tokens`, at some of their places or the last so many, behind a cache.

        `masks` are those of each kind of layer.
        """
        by_kind = dict(zip(self._masked, masks, strict=True))
        return self.logits(
            model,
            places,
            input_ids=torch.tensor([list(tokens)], device=self.device),
            attention_mask=by_kind if "sliding_attention" in self.kinds else masks[0],
            position_ids=positions[None].to(self.device),
            **self.behind(cache),
            **more,
        )

    def behind(self, cache: Any) -> dict[str, Any]:
        """What tells a model to read on behind a cache."""
        return {"use_cache": True, self._cache_name: cache}

    def masks(self, visible: torch.Tensor, known: torch.Tensor) -> list[torch.Tensor]:
        """The masks of one conversation of which the last tokens are new, a kind of layer each."""
        return [self._mask(kind, visible, known[-len(visible) :], known)[None] for kind in self._masked]

    def _here(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)

    def logits(self, model: Any, places: int | torch.Tensor, **inputs: Any) -> torch.Tensor:
        """The logits (places, vocabulary) of a model, float32, at places of a sequence: these, or its last so many."""
        if isinstance(places, int):
            # By their numbers: of a slice PyTorch would multiply each anew with a copy of the whole vocabulary.
            length = inputs["input_ids"].shape[1]
            places = torch.arange(length - places, length, device=self.device)
        # Most of what a small model computes is its vocabulary's; where it can, only what is asked for is computed.
        more = {"logits_to_keep": places} if self._chooses else {}
        found: torch.Tensor = model(**inputs, **more).logits[0]
        return (found if self._chooses else found[places]).float()
