"""Check list: `check list`, of commands that were told to be given one after the other: which ones are next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from environments.tools.base import Seen

SENTENCE, ITEM = re.compile(r"[.!?:;\n]+"), re.compile(r",\s*(?:and\s+)?(?:then\s)?| and (?:then )?| then ")

AHEAD = 5
"""How many of the next commands are told at once. A call costs a step, so that one for each would double the way."""

DONE = re.compile(r"(\d+) of (\d+) done\.$")


class Listed(NamedTuple):
    """The commands of a list, and how many of them were given since it was read, in its order."""

    commands: list[str]
    done: int


class Checklist:
    """Keeps the place in a list of commands, which a long one is easily lost in."""

    name = "checklist"
    verbs = ("check list",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """One call, where a list was read and is not worked off, but for what was told of it already."""
        found = listed(seen)
        if found is None or found.done == len(found.commands) or _told(seen, found):
            return []
        return [*self.verbs]

    def answer(self, call: str, seen: Seen) -> str:
        """`Next: smell apple, then meow. 8 of 10 done.` Raises ValueError where there is no list, or all is done."""
        found = listed(seen)
        if found is None:
            raise ValueError("no list of commands was read")
        if found.done == len(found.commands):
            raise ValueError("everything in the list is done")
        following = ", then ".join(found.commands[found.done : found.done + AHEAD])
        return f"Next: {following}. {found.done} of {len(found.commands)} done."


def _told(seen: Seen, listed: Listed) -> bool:
    """Whether the last call told the command that is next."""
    answers = (DONE.search(call.answer) for call in reversed(seen.calls) if call.action in Checklist.verbs)
    said = next(answers, None)
    if said is None or int(said[2]) != len(listed.commands):
        return False
    return int(said[1]) <= listed.done < int(said[1]) + AHEAD


def listed(seen: Seen) -> Listed | None:
    """The list of commands that was read last: several in one sentence, all of which are commands, or were given.

    One that is read again before it was worked off goes on where it was.
    """
    given = [call.action for call in seen.told]
    known = {command.lower(): command for command in [*given, *seen.commands] if command}  # at first nothing was given
    texts = [seen.goal, *(call.answer for call in seen.told)]
    lists = [_in(text, known) for text in texts]
    commands = next(filter(None, reversed(lists)), None)
    if commands is None:
        return None
    read, done = False, 0
    for one, action in zip(lists, ["", *given], strict=True):
        done += read and done < len(commands) and action == commands[done]
        if one == commands and (not read or done == len(commands)):
            read, done = True, 0
    return Listed(commands, done)


def _in(text: str, known: Mapping[str, str]) -> list[str] | None:
    for sentence in SENTENCE.split(text):
        commands = [known.get(item.strip().lower(), "") for item in ITEM.split(sentence)]
        if len(commands) > 1 and all(commands):
            return commands
    return None
