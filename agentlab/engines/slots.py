"""Key/value caches of many conversations in one padded memory: a slot each, given back when an episode ends."""

from __future__ import annotations

import threading
from collections import deque

import torch

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
                more = max(self.count, 1)
                self._free = list(range(self.count + more - 1, self.count - 1, -1))
                self._resize(self.count + more, self.capacity)
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
        for at, layer in self.layers.items():
            grown = []
            for part in layer:
                larger = part.new_zeros(count, capacity, *part.shape[2:])
                larger[: part.shape[0], : part.shape[1]] = part
                grown.append(larger)
            self.layers[at] = grown[0], grown[1]
        self.count, self.capacity = count, capacity

    def layer(self, at: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The memory of a layer that has keys and values (1, heads, tokens, width) like these."""
        if at not in self.layers:
            made = [part.new_zeros(self.count, self.capacity, part.shape[1], part.shape[3]) for part in (keys, values)]
            self.layers[at] = made[0], made[1]
        return self.layers[at]
