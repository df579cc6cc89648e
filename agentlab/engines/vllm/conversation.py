"""An episode on a server that keeps what it has read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from operator import eq

from agentlab.engines.base import TRANSCRIPT, Tokenizing
from agentlab.engines.conversation import TokenConversation
from memory.prompts import Prompting


class ServedConversation(TokenConversation):
    """A conversation whose beginning a server has read already: what it takes is counted as a local engine counts it,
    by the tokens that are new."""

    def __init__(self, engine: Tokenizing, goal: str, hints: str, prompting: Prompting = TRANSCRIPT) -> None:
        super().__init__(engine, goal, hints, prompting)
        self._read: list[int] = []

    def read(self, token_ids: Sequence[int]) -> int:
        """Note that a server is asked to go on from these tokens; how many of them are new to it, at least the last."""
        known = sum(takewhile(bool, map(eq, self._read, token_ids)))
        self._read = list(token_ids)
        return max(len(token_ids) - known, 1)
