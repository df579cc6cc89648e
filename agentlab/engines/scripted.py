"""The scripted engine, for tests: it prefers what it is told to prefer, and writes what it is told to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from agentlab.engines.base import Adapter, Aside, ScoreRequest, Scores, Turn, TurnRequest, WriteRequest, Writing
from memory import prompts

Script = Callable[[str, str], float]
Replies = Callable[[TurnRequest], str]


class ScriptedEngine:
    """An engine without weights whose behaviour a test states in full.

    `preferences` maps a command to its score, or is a function of (transcript, command); a command without one gets
    `floor`. `answers` are written one after the other, the last one for ever. Adapters change nothing, unless
    `preferences_by_adapter` has an entry for them. `replies` are the turns that it writes: one after the other, or as a
    function of the request; it is held to no command.
    """

    name = "scripted"

    def __init__(
        self,
        preferences: Mapping[str, float] | Script,
        *,
        answers: Sequence[str] = (),
        preferences_by_adapter: Mapping[str, Mapping[str, float] | Script] | None = None,
        floor: float = -10.0,
        replies: Sequence[str] | Replies = (),
    ) -> None:
        self.preferences = preferences
        self.by_adapter = dict(preferences_by_adapter or {})
        self.answers = list(answers)
        self.floor = floor
        self.prompts: list[str] = []
        self.replies = replies if callable(replies) else list(replies)
        self.asked: list[TurnRequest] = []

    def load(self, adapter: Adapter) -> None:
        """Any adapter is taken."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [
            Scores(
                [
                    self._score(request, command, aside)
                    for command, aside in zip_longest(request.commands, request.asides)
                ]
            )
            for request in requests
        ]

    def _score(self, request: ScoreRequest, command: str, aside: Aside | None) -> float:
        script = self.by_adapter.get(request.adapter.id if request.adapter else "", self.preferences)
        if callable(script):
            conversation = request.conversation
            return float(script(conversation.text_after(aside) if aside else conversation.text, command))
        return float(script.get(command, self.floor))

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        return [Writing(self._answer(request.prompt)) for request in requests]

    def _answer(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.answers:
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def write_turns(self, requests: Sequence[TurnRequest]) -> list[Turn]:
        return [self._turn(request) for request in requests]

    def _turn(self, request: TurnRequest) -> Turn:
        self.asked.append(request)
        if callable(self.replies):
            text = self.replies(request)
        elif not self.replies:
            text = ""
        else:
            text = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        thought, command = prompts.read(text)
        return Turn(text, command, thought)
