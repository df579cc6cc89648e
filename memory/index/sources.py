"""What an index is made from: the numbered texts that the database holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from memory.store.database import Database
from memory.store.episodes import chunks, marks

if TYPE_CHECKING:
    import numpy as np

PAGE = 16384
"""How many entries are fetched at once, so that a million of them are never held as Python objects."""


class Entry(NamedTuple):
    """A text by its number; `stamp` is a hash of it, and `mark` grows with every change to any text."""

    mark: int
    number: int
    stamp: int


Entries = Sequence[Entry]
"""Or an array of the same: int64, (n, 3)."""


class Summary(NamedTuple):
    """What entries come to: their greatest mark, their count, and two sums over numbers and stamps.

    Between them the sums cover every bit of every stamp, and stay below 2^63 up to eight million entries.
    """

    mark: int
    n: int
    low: int
    high: int


class Source(Protocol):
    """Numbered texts that an index can follow."""

    def entries(self, after: int = -1) -> Entries | np.ndarray:
        """The texts whose mark is above `after`, by rising mark. A text changed meanwhile may be there twice."""
        ...

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """The texts with these numbers, in this order."""
        ...


@runtime_checkable
class Summed(Protocol):
    """A source that can say what its entries come to without giving them away one by one."""

    def summary(self, upto: int) -> Summary:
        """Of the entries whose mark is at most `upto`."""
        ...


def summary(mark: int, numbers: np.ndarray, stamps: np.ndarray) -> Summary:
    """What a source answers that holds just these, the last of them at `mark`."""
    low = int(((stamps & 0xFFFFFF) * ((numbers & 0xFFFF) + 1)).sum())
    return Summary(mark, len(numbers), low, int((stamps >> 24).sum()))


class ReflectionTexts:
    """The texts of all reflections, whatever their status."""

    def __init__(self, database: Database):
        self.database = database

    def entries(self, after: int = -1) -> np.ndarray:
        """See `Source`. Answered from one index of the table: cheap enough to ask before every search."""
        return _entries(self.database, "reflections", "changed", after)

    def summary(self, upto: int) -> Summary:
        """See `Summed`."""
        return _summary(self.database, "reflections", "changed", upto)

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        return _texts(self.database, "reflections", numbers)


class StateTexts:
    """The states in which some advised action gained something. A state never changes, so its number is its mark."""

    def __init__(self, database: Database):
        self.database = database

    def entries(self, after: int = -1) -> np.ndarray:
        """See `Source`."""
        return _entries(self.database, "states", "number", after)

    def summary(self, upto: int) -> Summary:
        """See `Summed`."""
        return _summary(self.database, "states", "number", upto)

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        return _texts(self.database, "states", numbers)


def _entries(database: Database, table: str, mark: str, after: int) -> np.ndarray:
    import numpy as np

    pages = [np.empty((0, 3), np.int64)]
    while True:
        rows = database.execute(
            f"SELECT {mark}, number, stamp FROM {table} WHERE {mark} > ? ORDER BY {mark} LIMIT ?", (after, PAGE)
        )
        if rows:
            pages.append(np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3))
            after = rows[-1][0]
        if len(rows) < PAGE:
            return np.concatenate(pages) if len(pages) > 2 else pages[-1]


def _summary(database: Database, table: str, mark: str, upto: int) -> Summary:
    rows = database.execute(
        f"SELECT ifnull(max({mark}), -1), count(*), ifnull(sum((stamp & 0xFFFFFF) * ((number & 0xFFFF) + 1)), 0), "
        f"ifnull(sum(stamp >> 24), 0) FROM {table} WHERE {mark} <= ?",
        (upto,),
    )
    return Summary(*rows[0])


def _texts(database: Database, table: str, numbers: Sequence[int]) -> list[str]:
    found: dict[int, str] = {}
    for part in chunks(numbers):
        found.update(database.execute(f"SELECT number, text FROM {table} WHERE number IN {marks(part)}", part))
    return [found[number] for number in numbers]
