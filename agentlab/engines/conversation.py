"""A transcript with its tokens and its key/value cache, held within the context of its engine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from agentlab.engines.base import Adapter, Conversation, Tokenizing
from agentlab.errors import ContextExceeded
from memory import prompts

LEFT_OUT = "[… {} characters left out …]"
"""What stands in an observation where its middle was cut out."""


class CachedConversation(Conversation):
    """A transcript with its tokens and its key/value cache.

    `pending` are tokens that the model has not seen yet; `turn_starts` are the borders at which old turns are dropped
    when the context is full. The head (task and memory block) is never dropped; a quarter of the context is kept for
    commands, and an observation that does not fit beside both loses its middle. Raises ContextExceeded if the head
    leaves no room for observations.
    """

    def __init__(self, engine: Tokenizing, goal: str, hints: str) -> None:
        super().__init__(goal, hints)
        self.engine = engine
        self.token_ids = [*engine.tokenize.opening, *engine.tokenize(self.text)]
        self.head_length = len(self.token_ids)
        self.room = engine.context - engine.context // 4 - self.head_length
        """Tokens that one turn may have."""
        if self.room < engine.context // 8:
            raise ContextExceeded(
                f"The task and its memory block have {self.head_length} tokens, which leaves no room for a game in a "
                f"context of {engine.context}; raise `context` in lab.toml, or recall less."
            )
        self.turn_starts: list[int] = []
        self.cache: Any = None
        self.adapter: Adapter | None = None  # the one that filled the cache
        self.seen: list[int] = []
        self.pending: list[int] = list(self.token_ids)

    def observe(self, observation: str) -> None:
        self.turn_starts.append(len(self.token_ids))
        shown, ids = self._fitted(observation)
        super().observe(shown)
        self._append(ids)

    def act(self, command: str) -> None:
        super().act(command)
        start = len(self.token_ids)
        self._append(self.engine.command_tokens(command))
        self.action_spans.append((start, len(self.token_ids)))

    def _append(self, ids: Sequence[int]) -> None:
        self.token_ids.extend(ids)
        self.pending.extend(ids)

    def _fitted(self, observation: str) -> tuple[str, Sequence[int]]:
        """The observation and the tokens of its turn; without its middle if they are too many."""
        kept = len(observation)
        while True:
            self.cut = len(observation) - kept
            shown = observation
            if self.cut:
                # How a text begins says where one is, how it ends what is to be done.
                first = kept * 2 // 3
                last = observation[len(observation) - (kept - first) :]
                shown = f"{observation[:first]}\n{LEFT_OUT.format(f'{self.cut:,}')}\n{last}"
            # What is far too long is not cut into tokens first: hardly a text has as few as one for 64 characters.
            ids = self.engine.tokenize(prompts.turn(shown)) if kept <= 64 * self.room else ()
            if ids and (len(ids) <= self.room or not kept):
                return shown, ids
            kept = min(kept * self.room * 9 // (len(ids) * 10), kept - 1) if ids else 64 * self.room

    def remaining(self) -> int:
        """Tokens of the context that are left beside the head and the last turn, which are never dropped."""
        last = len(self.token_ids) - (self.turn_starts[-1] if self.turn_starts else self.head_length)
        return self.engine.context - self.head_length - last

    def make_room(self, needed: int) -> None:
        """Drop the oldest turns until `needed` more tokens fit; a cache that lost turns is rebuilt.

        Half of the window is freed at once, so that a long episode does not pay for a rebuild at every step.
        """
        limit = self.engine.context
        if len(self.seen) + len(self.pending) + needed <= limit or not self.turn_starts:
            return
        from trainers.data import drop_oldest

        borders = [*self.turn_starts, len(self.token_ids)]
        lengths = [after - before for before, after in pairwise(borders)]
        dropped = drop_oldest(lengths, self.head_length, min(limit // 2, limit - needed))
        kept = self.token_ids[self.turn_starts[dropped] :] if dropped else self.token_ids[self.head_length :]
        self.cache, self.seen = None, []
        self.pending = [*self.token_ids[: self.head_length], *kept]

    def close(self) -> None:
        self.cache = None
