"""The scripted engine, for tests: it prefers what it is told to prefer, and writes what it is told to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agentlab.engines.base import Adapter, ScoreRequest, Scores, WriteRequest, Writing

Script = Callable[[str, str], float]


class ScriptedEngine:
    """An engine without weights whose behaviour a test states in full.

    `preferences` maps a command to its score, or is a function of (transcript, command); a command without one gets
    `floor`. `answers` are written one after the other, the last one for ever. Adapters change nothing, unless
    `preferences_by_adapter` has an entry for them.
    """

    name = "scripted"

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
        self.prompts: list[str] = []

    def load(self, adapter: Adapter) -> None:
        """Any adapter is taken."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [Scores([self._score(request, command) for command in request.commands]) for request in requests]

    def _score(self, request: ScoreRequest, command: str) -> float:
        script = self.by_adapter.get(request.adapter.id if request.adapter else "", self.preferences)
        if callable(script):
            return float(script(request.conversation.text, command))
        return float(script.get(command, self.floor))

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        return [Writing(self._answer(request.prompt)) for request in requests]

    def _answer(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.answers:
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
