"""The random engine: every command is equally likely. The floor of every table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from agentlab.engines.base import Conversation
from agentlab.errors import AgentLabError


class RandomEngine:
    """Uniform log-probabilities; it has no weights, no adapters, and writes nothing."""

    name = "random"
    adapter: str | None = None
    can_write = False

    def conversation(self, goal: str, hints: str = "") -> Conversation:
        return Conversation(goal, hints)

    def score(self, conversation: Conversation, candidates: Sequence[str]) -> list[float]:
        return [-math.log(len(candidates))] * len(candidates)

    def generate(self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0) -> str:
        return ""

    def with_adapter(self, adapter: str, folder: Path) -> RandomEngine:
        raise AgentLabError("The random engine has no weights, so it takes no adapter; leave --adapter out.")
