"""Check list: `check list`, of commands that were told to be given one after the other: which one is next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from environments.tools.base import Seen

SENTENCE, ITEM = re.compile(r"[.!?:;\n]+"), re.compile(r",\s*(?:and\s+)?(?:then\s)?| then ")


class Listed(NamedTuple):
    """The commands of a list, and how many of them were given since it was read, in its order."""

    commands: list[str]
    done: int


class Checklist:
    """Keeps the place in a list of commands, which a long one is easily lost in."""

    name = "checklist"
    verbs = ("check list",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """One call, where a list was read and is not worked off."""
        found = listed(seen)
        return [*self.verbs] if found is not None and found.done < len(found.commands) else []

    def answer(self, call: str, seen: Seen) -> str:
        """`Next: smell apple. 1 of 10 done.` Raises ValueError where there is no list, or all is done."""
        found = listed(seen)
        if found is None:
            raise ValueError("no list of commands was read")
        if found.done == len(found.commands):
            raise ValueError("everything in the list is done")
        return f"Next: {found.commands[found.done]}. {found.done} of {len(found.commands)} done."


def listed(seen: Seen) -> Listed | None:
    """The list of commands that was read last: several in one sentence, all of which are commands, or were given."""
    given = [call.action for call in seen.told]
    known = {*seen.commands, *given} - {""}  # at the beginning nothing was given
    texts = [(read, call.answer) for read, call in enumerate(seen.told)]
    for read, text in [*reversed(texts), (0, seen.goal)]:
        for sentence in SENTENCE.split(text):
            commands = [item.strip() for item in ITEM.split(sentence)]
            if len(commands) > 1 and all(command in known for command in commands):
                return Listed(commands, _done(commands, given[read + 1 :]))
    return None


def _done(commands: Sequence[str], given: Sequence[str]) -> int:
    done = 0
    for action in given:
        done += done < len(commands) and action == commands[done]
    return done
