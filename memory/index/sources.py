"""What an index is made from: the numbered texts that the database holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from memory.store.database import Database
from memory.store.texts import Texts

if TYPE_CHECKING:
    import numpy as np


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


class DatabaseTexts:
    """Texts that the database numbers."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def entries(self, after: int = -1) -> np.ndarray:
        """See `Source`."""
        return self._texts.entries(after)

    def summary(self, upto: int) -> Summary:
        """See `Summed`."""
        return Summary(*self._texts.sums(upto))

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        return self._texts.texts(numbers)


class ReflectionTexts(DatabaseTexts):
    """The texts of all reflections, whatever their status."""

    def __init__(self, database: Database) -> None:
        super().__init__(Texts(database.connection, "reflections", "changed"))


class StateTexts(DatabaseTexts):
    """The states in which some advised action gained something. A state never changes, so its number is its mark."""

    def __init__(self, database: Database) -> None:
        super().__init__(Texts(database.connection, "states", "number"))
