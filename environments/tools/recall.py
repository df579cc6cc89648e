"""Recall: `recall …` searches the long-term memory in the middle of a game, where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from environments.tools.base import Seen

HERE = "recall this task"

REMEMBERED, APART = "You remember: ", " / "


class Recall:
    """Asks whoever plays what was learned about something; `search` is set by that player, for one game.

    A ranking agent is offered to ask about its task and what it sees; a writing one may ask about what it likes. A
    player without a memory is offered nothing.
    """

    name = "recall"
    verbs = ("recall",)

    def __init__(self) -> None:
        self.search: Callable[[str], Sequence[str]] | None = None

    def calls(self, seen: Seen) -> Sequence[str]:
        """One call, where there is somebody to ask."""
        return [HERE] if self.search is not None else []

    def answer(self, call: str, seen: Seen) -> str:
        """What is remembered, or that it is nothing."""
        about = call.removeprefix("recall").strip()
        last = seen.told[-1].answer if seen.told else ""
        query = f"{seen.goal}\n{last}" if about == "this task" or not about else about
        found = self.search(query) if self.search is not None else []
        return f"{REMEMBERED}{APART.join(found)}" if found else "You remember nothing of that."


def recorded(answers: Iterable[str]) -> Callable[[str], Sequence[str]]:
    """A search that finds what was recorded as found, one answer after the other: to play a game again as it was."""
    left = iter(answers)

    def search(query: str) -> Sequence[str]:
        answer = next(left, "")
        return answer.removeprefix(REMEMBERED).split(APART) if answer.startswith(REMEMBERED) else []

    return search
