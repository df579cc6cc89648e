"""The scripted engine, for tests: it prefers what it is told to prefer, and writes what it is told to write."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from agentlab.engines.base import Conversation

Script = Callable[[str, str], float]


class ScriptedEngine:
    """An engine without weights whose behaviour a test states in full.

    `preferences` maps a command to its score, or is a function of (transcript, command); a command without one gets
    `floor`. `answers` are returned by `generate`, one after the other, the last one for ever. Adapters change nothing,
    unless `preferences_by_adapter` has an entry for them.
    """

    name = "scripted"
    can_write = True

    def __init__(
        self,
        preferences: Mapping[str, float] | Script,
        *,
        answers: Sequence[str] = (),
        preferences_by_adapter: Mapping[str, Mapping[str, float] | Script] | None = None,
        floor: float = -10.0,
    ) -> None:
        self.preferences = preferences
        self.by_adapter = dict(preferences_by_adapter or {})
        self.answers = list(answers)
        self.floor = floor
        self.adapter: str | None = None
        self.prompts: list[str] = []

    def conversation(self, goal: str, hints: str = "") -> Conversation:
        return Conversation(goal, hints)

    def score(self, conversation: Conversation, candidates: Sequence[str]) -> list[float]:
        script = self.by_adapter.get(self.adapter or "", self.preferences)
        if callable(script):
            return [float(script(conversation.text, command)) for command in candidates]
        return [float(script.get(command, self.floor)) for command in candidates]

    def generate(self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0) -> str:
        self.prompts.append(prompt)
        if not self.answers:
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def with_adapter(self, adapter: str, folder: Path) -> Self:
        changed = copy.copy(self)
        changed.adapter = adapter
        return changed
