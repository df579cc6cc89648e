"""What was read of the reflections, kept as long as none of them is written."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from memory.database import Database

Shelf = dict[Any, Any]
"""What was read, by what was asked."""


class Shelves(dict[Hashable, Shelf]):
    """What was read, by what kind of thing it is, as of one moment."""

    def shelf(self, name: Hashable, most: int) -> Shelf:
        """The shelf of this name, to be looked into and added to; emptied when it holds more than `most`."""
        found = self.setdefault(name, {})
        if len(found) > most:
            found = self[name] = {}
        return found


class Kept:
    """Shelves for what was read, all cleared as soon as anything is written by whomever.

    An episode asks its memory at every step and writes at its end; in between the same rows are read many times. What
    is written gets a higher mark than everything before it: while the highest is the same, nothing has changed.
    """

    def __init__(self, database: Database):
        self.database = database
        self._mark = -1
        self._shelves = Shelves()

    def shelves(self) -> Shelves:
        """What is kept now. One recall holds to one moment, whatever is written meanwhile."""
        # What is not committed may be taken back, and its mark be given to something else.
        if self.database.in_transaction:
            return Shelves()
        mark = self.database.last_change()
        if mark != self._mark or len(self._shelves) > 64:
            self._shelves, self._mark = Shelves(), mark
        return self._shelves
