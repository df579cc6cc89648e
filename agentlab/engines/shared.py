"""One engine, seen by each episode with an adapter of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentlab.engines.base import Conversation, Engine
from agentlab.errors import AgentLabError


class SharedEngine:
    """An engine with one adapter fixed, for episodes played at the same time with different ones.

    Each call turns the engine to the adapter (its id, and its folder as for `Engine.use`) before it asks. All that
    share an engine must share the lock. What else an engine can do is asked of the engine itself.
    """

    def __init__(self, engine: Engine, lock: threading.RLock, adapter: str | None, folder: Path | None = None) -> None:
        self.engine = engine
        self.name = engine.name
        self.can_write = engine.can_write
        self.adapter = adapter
        self._folder = folder
        self._lock = lock

    def conversation(self, goal: str, hints: str = "") -> Conversation:
        return self.engine.conversation(goal, hints)

    def score(self, conversation: Conversation, candidates: Sequence[str]) -> list[float]:
        with self._lock:
            self.engine.use(self.adapter, self._folder)
            return self.engine.score(conversation, candidates)

    def generate(self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0) -> str:
        with self._lock:
            self.engine.use(self.adapter, self._folder)
            return self.engine.generate(prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)

    def use(self, adapter: str | None, folder: Path | None = None) -> None:
        """Refused for any other adapter: an episode would silently go on with other weights."""
        if adapter != self.adapter:
            raise AgentLabError(
                f"This engine is shared and serves {self.adapter or 'the base'} here; take another view of it instead."
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)
