"""The numbered texts of a table, as an index follows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal

from memory.store.connection import Connection
from memory.store.sql import chunks, marks

if TYPE_CHECKING:
    import numpy as np

PAGE = 16384
"""How many entries are fetched at once, so that a million of them are never held as Python objects."""


class Texts:
    """The texts of one table, whose column `mark` grows with every change to any of them."""

    def __init__(
        self, connection: Connection, table: Literal["reflections", "states"], mark: Literal["changed", "number"]
    ) -> None:
        self.connection = connection
        self.table = table
        self.mark = mark

    def entries(self, after: int = -1) -> np.ndarray:
        """(mark, number, stamp) of the texts whose mark is above `after`, by rising mark: int64, (n, 3).

        Answered from one index of the table: cheap enough to ask before every search.
        """
        import numpy as np

        pages = [np.empty((0, 3), np.int64)]
        while True:
            rows = self.connection.execute(
                f"SELECT {self.mark}, number, stamp FROM {self.table} WHERE {self.mark} > ? "
                f"ORDER BY {self.mark} LIMIT ?",
                (after, PAGE),
            )
            if rows:
                pages.append(np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3))
                after = rows[-1][0]
            if len(rows) < PAGE:
                return np.concatenate(pages) if len(pages) > 2 else pages[-1]

    def sums(self, upto: int) -> tuple[int, int, int, int]:
        """Of the entries whose mark is at most `upto`: the greatest mark, their count, two sums (see `Summary`)."""
        ((mark, count, low, high),) = self.connection.execute(
            f"SELECT ifnull(max({self.mark}), -1), count(*), "
            "ifnull(sum((stamp & 0xFFFFFF) * ((number & 0xFFFF) + 1)), 0), "
            f"ifnull(sum(stamp >> 24), 0) FROM {self.table} WHERE {self.mark} <= ?",
            (upto,),
        )
        return mark, count, low, high

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """The texts with these numbers, in this order."""
        found: dict[int, str] = {}
        for part in chunks(numbers):
            found.update(
                self.connection.execute(f"SELECT number, text FROM {self.table} WHERE number IN {marks(part)}", part)
            )
        return [found[number] for number in numbers]
