"""An episode with the key/value cache of a local model."""

from __future__ import annotations

from collections.abc import Sequence

from agentlab.engines.base import TRANSCRIPT, Adapter, Tokenizing
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.slots import CacheSlots, Slot
from memory.prompts import Prompting


class CachedConversation(TokenConversation):
    """An episode with the keys and values of the model that reads it, in a slot.

    `seen` are the tokens in the slot, `pending` those that the model has not seen yet.
    """

    def __init__(
        self, engine: Tokenizing, slots: CacheSlots, goal: str, hints: str, prompting: Prompting = TRANSCRIPT
    ) -> None:
        super().__init__(engine, goal, hints, prompting)
        self.slots = slots
        self.cache: Slot | None = None
        self.adapter: Adapter | None = None  # the one that filled the slot
        self.seen: list[int] = []
        self.pending: list[int] = list(self.token_ids)

    def _append(self, ids: Sequence[int]) -> None:
        super()._append(ids)
        self.pending.extend(ids)

    def open_cache(self, adapter: Adapter | None) -> Slot:
        """A slot with what this adapter read, and at least one token that is to be read."""
        if self.cache is None or self.adapter != adapter:
            self._forget()
            self.cache, self.adapter = self.slots.lend(), adapter
        elif not self.pending:
            # Asked again about the same moment: what follows its last token was not kept, so that token is read again.
            self.pending = [self.seen.pop()]
        self.cache.length = len(self.seen)  # what was read behind that, a tree or an answer, counts no more
        return self.cache

    def read(self) -> None:
        """Note that what was pending is in the slot now."""
        self.seen.extend(self.pending)
        self.pending = []

    def make_room(self, needed: int) -> bool:
        """As of a `TokenConversation`; what lost turns is read anew."""
        dropped = super().make_room(needed)
        if dropped:
            self._forget()
            self.pending = list(self.context_ids)
        return dropped

    def close(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Give the slot back; what was in it is to be read again."""
        if self.cache is not None:
            self.cache.close()
            self.cache = None
        self.pending, self.seen = [*self.seen, *self.pending], []
