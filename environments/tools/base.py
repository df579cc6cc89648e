"""What a tool is: it says which calls make sense now, and answers one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class Call(NamedTuple):
    """Something that was done in the game, and what was said then; `action` is empty at the beginning."""

    action: str
    answer: str


class Seen(NamedTuple):
    """All that a player knows at this moment.

    Attributes:
        goal: the task in words.
        told: what the game said, the oldest first; the first is what is seen at the beginning.
        calls: the calls of tools that were made so far, with their answers, the oldest first.
        commands: the game's own commands that are admissible now; empty where it takes any text.
    """

    goal: str
    told: Sequence[Call]
    calls: Sequence[Call]
    commands: Sequence[str]

    @property
    def texts(self) -> list[str]:
        """The goal and all that the game said, the newest first."""
        return [*(call.answer for call in reversed(self.told)), self.goal]


@runtime_checkable
class Tool(Protocol):
    """Answers calls. One object serves many games, so what it knows of one it takes from `Seen`.

    `name` is how an id names it. A call is a command that is one of its `verbs`, or begins with one and a blank.
    """

    @property
    def name(self) -> str: ...

    @property
    def verbs(self) -> Sequence[str]: ...

    def calls(self, seen: Seen) -> Sequence[str]:
        """The calls that make sense now, as they are typed. A ranking agent chooses among these alone."""
        ...

    def answer(self, call: str, seen: Seen) -> str:
        """What is answered to a call, in words that the game's commands are written in, so that it points at one.

        What it raises is answered in a line, and changes nothing.
        """
        ...
