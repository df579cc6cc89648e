"""The navigator: `find way to ROOM`, by a map that was read and by the rooms that were walked."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from environments.tools.base import Seen

DIRECTIONS = ("north", "east", "south", "west", "up", "down")
_BACK = {"north": "south", "south": "north", "east": "west", "west": "east", "up": "down", "down": "up"}

_HERE = re.compile(r"\bYou are (?:now )?in (?:the |an? )?([a-z][a-z' -]{0,60}?)(?=[.,;:]|$)", re.IGNORECASE)
_EXIT = re.compile(
    r"\b(?:To the )?(North|East|South|West|Up|Down)(?:,? you see|:) (?:the |an? )?([a-z][a-z' -]{0,60}?)(?=[.,;(]|$)",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"closed .*door$")
"""What is seen instead of a room that lies behind it."""

_CONNECTS = re.compile(r"\bThe ([a-z][a-z' -]{0,60}?) connects to the ([a-z][a-z', -]{0,400}?)(?=\.|$)", re.IGNORECASE)


class Rooms:
    """What is known of the rooms: which lie beside which, and in which direction, where that was seen."""

    def __init__(self, seen: Seen) -> None:
        self.here = ""
        self.beside: dict[str, set[str]] = {}
        self.towards: dict[tuple[str, str], str] = {}
        for action, text in seen.told:
            came = self.here
            if found := _HERE.search(text):
                self.here = _name(found[1])
            for room, others in _CONNECTS.findall(text):
                for other in re.split(r",| and ", others):
                    self._join(_name(room), _name(other).removeprefix("the "))
            if not found:
                continue
            for direction, name in _EXIT.findall(text):
                if not _CLOSED.match(room := _name(name)):
                    self._join(self.here, room, direction.lower())
            walked = action.split()[-1].lower() if action else ""
            if walked in DIRECTIONS and came and came != self.here:
                self._join(came, self.here, walked)

    def _join(self, one: str, other: str, direction: str = "") -> None:
        if not one or not other or one == other:
            return
        self.beside.setdefault(one, set()).add(other)
        self.beside.setdefault(other, set()).add(one)
        if direction:
            self.towards[one, other] = direction
            self.towards.setdefault((other, one), _BACK[direction])

    def way(self, to: str) -> list[str]:
        """The rooms of a shortest way from here, the first one beside this; empty if none is known."""
        before: dict[str, str] = {self.here: ""}
        waiting = deque([self.here])
        while waiting and to not in before:
            room = waiting.popleft()
            # By their names, so that of ways that are equally long always the same is told.
            for other in sorted(self.beside.get(room, ())):
                if other not in before:
                    before[other] = room
                    waiting.append(other)
        if to not in before:
            return []
        rooms = [to]
        while before[rooms[-1]] not in ("", self.here):
            rooms.append(before[rooms[-1]])
        return rooms[::-1]


class Navigator:
    """Finds the way to a room that a map names, or that was seen."""

    name = "navigator"
    verbs = ("find way to",)

    def calls(self, seen: Seen) -> Sequence[str]:
        """The rooms that are known, but for this one."""
        rooms = Rooms(seen)
        return [f"find way to {room}" for room in sorted(rooms.beside) if room != rooms.here] if rooms.here else []

    def answer(self, call: str, seen: Seen) -> str:
        """`To reach the attic, move west to the hall.` Raises ValueError where no way is known."""
        to, rooms = _name(call.removeprefix("find way to").strip().removeprefix("the ")), Rooms(seen)
        if not to:
            raise ValueError("no room was named; write `find way to ROOM`")
        if to == rooms.here:
            raise ValueError(f"this is the {to}")
        way = rooms.way(to)
        if not way:
            raise ValueError(f"no way to the {to} is known")
        first = way[0]
        direction = rooms.towards.get((rooms.here, first), "")
        step = f"move {direction} to the {first}" if direction else f"go to the {first}"
        return f"To reach the {to}, {step}." + (f" {len(way)} rooms to go." if len(way) > 1 else "")


def _name(room: str) -> str:
    return " ".join(room.lower().split())
