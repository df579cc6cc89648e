"""What an index is made from: the numbered texts that the database holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from memory.database import Database
from memory.episodes import chunks, marks


class Entry(NamedTuple):
    """A text by its number; `stamp` is a hash of it, and `mark` grows with every change to any text."""

    mark: int
    number: int
    stamp: int


class Source(Protocol):
    """Numbered texts that an index can follow."""

    def entries(self, after: int = -1) -> list[Entry]:
        """The texts whose mark is above `after`, by rising mark."""
        ...

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """The texts with these numbers, in this order."""
        ...


class ReflectionTexts:
    """The texts of all reflections, whatever their status."""

    def __init__(self, database: Database):
        self.database = database

    def entries(self, after: int = -1) -> list[Entry]:
        """See `Source`. Answered from one index of the table: cheap enough to ask before every search."""
        rows = self.database.execute(
            "SELECT changed, number, stamp FROM reflections WHERE changed > ? ORDER BY changed", (after,)
        )
        return [Entry(*row) for row in rows]

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        return _texts(self.database, "reflections", numbers)


class StateTexts:
    """The states in which some advised action gained something. A state never changes, so its number is its mark."""

    def __init__(self, database: Database):
        self.database = database

    def entries(self, after: int = -1) -> list[Entry]:
        """See `Source`."""
        rows = self.database.execute(
            "SELECT number, number, stamp FROM states WHERE number > ? ORDER BY number", (after,)
        )
        return [Entry(*row) for row in rows]

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        return _texts(self.database, "states", numbers)


def _texts(database: Database, table: str, numbers: Sequence[int]) -> list[str]:
    found: dict[int, str] = {}
    for part in chunks(numbers):
        found.update(database.execute(f"SELECT number, text FROM {table} WHERE number IN {marks(part)}", part))
    return [found[number] for number in numbers]
