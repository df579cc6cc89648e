"""Key/value caches of many conversations in one padded memory: a slot each, given back when an episode ends."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import torch
from transformers import Cache

STEP = 256
"""Tokens by which a slot grows."""


class Slot:
    """The place of one conversation's keys and values. What is behind its `length` tokens counts as empty."""

    def __init__(self, slots: CacheSlots, index: int) -> None:
        self.slots, self.index, self.length = slots, index, 0

    def close(self) -> None:
        """Give the slot to whoever comes next; once."""
        if self.index >= 0:
            self.slots.take_back(self.index)
            self.index = -1

    def __del__(self) -> None:
        if self.index >= 0:  # of a conversation that nobody closed
            self.slots.dropped.append(self.index)


class CacheSlots:
    """Keys and values (slots, tokens, heads, width) of each layer, all slots as long as the longest has to be.

    Layers come to be when they are first written to; without a conversation there are none. `dropped` are slots that
    nobody holds any more: they come back when one is asked for, as garbage may be collected in the midst of anything.
    """

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.count = self.capacity = 0
        self.dropped: deque[int] = deque()
        self._free: list[int] = []
        self._lock = threading.Lock()

    def lend(self) -> Slot:
        """An empty slot."""
        with self._lock:
            while self.dropped:
                self._take_back(self.dropped.popleft())
            if not self._free:
                first = self.count
                self._resize(max(2 * first, 1), self.capacity)
                self._free = list(range(self.count - 1, first - 1, -1))
            index = self._free.pop()
            for layer in self.layers.values():
                for part in layer:
                    # Masked is not enough for what is no number: nothing times that is none either.
                    part[index] = 0
        return Slot(self, index)

    def take_back(self, index: int) -> None:
        """Lend this one again."""
        with self._lock:
            self._take_back(index)

    def _take_back(self, index: int) -> None:
        self._free.append(index)
        if len(self._free) == self.count:
            self.layers, self._free, self.count, self.capacity = {}, [], 0, 0

    def reserve(self, tokens: int) -> None:
        """Have room for so many tokens in every slot."""
        with self._lock:
            if tokens > self.capacity:
                self._resize(self.count, -(-tokens // STEP) * STEP)

    def _resize(self, count: int, capacity: int) -> None:
        """Where this is interrupted, some layers are larger than what is noted, and nothing in them is lost."""
        for at, layer in self.layers.items():
            grown = []
            for part in layer:
                larger = part.new_zeros(count, capacity, *part.shape[2:])
                larger[: self.count, : self.capacity] = part[: self.count, : self.capacity]
                grown.append(larger)
            self.layers[at] = grown[0], grown[1]
        self.count, self.capacity = count, capacity

    def layer(self, at: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The memory of a layer that has keys and values (1, heads, tokens, width) like these."""
        if at not in self.layers:
            made = [part.new_zeros(self.count, self.capacity, part.shape[1], part.shape[3]) for part in (keys, values)]
            self.layers[at] = made[0], made[1]
        return self.layers[at]


class SlotCache(Cache):
    """The cache of one pass, as transformers asks for one: it writes new tokens into slots, and shows what is there.

    Each token of the row goes to a place of its own: `rows` are the slots, `columns` the positions in them. Of a
    conversation alone (`alone`, with the length that it will have) it shows what other caches would; of several, all
    slots.
    """

    def __init__(
        self, slots: CacheSlots, rows: torch.Tensor, columns: torch.Tensor, alone: tuple[Slot, int] | None
    ) -> None:
        super().__init__(layers=[])
        self.slots, self.rows, self.columns, self.alone = slots, rows, columns, alone

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        shown = []
        memory = self.slots.layer(layer_idx, key_states, value_states)
        for part, new in zip(memory, (key_states, value_states), strict=True):
            part[self.rows, self.columns] = new[0].transpose(0, 1)
            if self.alone is None:
                shown.append(part.transpose(1, 2))
            else:
                slot, length = self.alone
                shown.append(part[slot.index : slot.index + 1, :length].transpose(1, 2))
        return shown[0], shown[1]
