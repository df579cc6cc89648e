"""Which numbered item has which row of vectors."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Items:
    """Numbered items, each with the stamp of its text and the row of its vector; equal vectors share one row.

    Numbers are those of a table, so that arrays by number are dense. `living` is how many rows have an item.
    """

    def __init__(self) -> None:
        import numpy as np

        self._rows = np.empty(0, np.int32)  # by number: its row, -1 where there is no such item
        self._stamps = np.empty(0, np.int64)  # by number
        self._first = np.empty(0, np.int64)  # by row: the least number that has it, -1 where none has
        self._others: dict[int, list[int]] = {}  # by row: its further numbers, rising
        self._count = 0
        self.living = 0

    @classmethod
    def of(cls, numbers: np.ndarray, stamps: np.ndarray, rows: np.ndarray) -> Items:
        """The items with these numbers (rising), stamps and rows."""
        import numpy as np

        made = cls()
        if len(numbers):
            made._reserve(int(numbers[-1]), int(rows.max()))
        made._rows[numbers], made._stamps[numbers] = rows, stamps
        order = np.argsort(rows, kind="stable")
        living, firsts = np.unique(rows[order], return_index=True)
        made._first[living] = numbers[order[firsts]]
        twins = np.delete(order, firsts)
        for row, number in zip(rows[twins].tolist(), numbers[twins].tolist(), strict=True):
            made._others.setdefault(row, []).append(number)
        made._count, made.living = len(numbers), len(living)
        return made

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """What the arrays take in memory."""
        return self._rows.nbytes + self._stamps.nbytes + self._first.nbytes

    @property
    def numbers(self) -> np.ndarray:
        """All numbers, rising: int64."""
        import numpy as np

        return np.flatnonzero(self._rows >= 0)

    def alive(self, rows: int) -> np.ndarray:
        """For each of the first `rows` rows whether some item has it."""
        self._reserve(-1, rows - 1)
        found: np.ndarray = self._first[:rows] >= 0
        return found

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """The row of each of `numbers`, -1 for those that are no items."""
        import numpy as np

        found = np.full(len(numbers), -1, np.int32)
        known = (numbers >= 0) & (numbers < len(self._rows))
        found[known] = self._rows[numbers[known]]
        return found

    def stamps_of(self, numbers: np.ndarray) -> np.ndarray:
        """The stamp of each of `numbers`, 0 for those that never were items."""
        import numpy as np

        found = np.zeros(len(numbers), np.int64)
        known = (numbers >= 0) & (numbers < len(self._rows))
        found[known] = self._stamps[numbers[known]]
        return found

    def first_at(self, rows: np.ndarray) -> np.ndarray:
        """For each of `rows`, which are all alive, the least number that has it."""
        found: np.ndarray = self._first[rows]
        return found

    def numbers_at(self, rows: np.ndarray) -> list[list[int]]:
        """For each of `rows`, which are all alive, the numbers that have it, rising."""
        firsts = zip(rows.tolist(), self._first[rows].tolist(), strict=True)
        return [[first, *self._others.get(row, ())] for row, first in firsts]

    @property
    def shared(self) -> bool:
        """True if some row has several items."""
        return bool(self._others)

    def put(self, number: int, stamp: int, row: int) -> None:
        """Give `number` this stamp and row, instead of those it may have had."""
        self._reserve(number, row)
        self.remove(number)
        first = int(self._first[row])
        if first < 0:
            self._first[row] = number
            self.living += 1
        else:
            self._first[row] = min(first, number)
            insort(self._others.setdefault(row, []), max(first, number))
        self._rows[number], self._stamps[number] = row, stamp
        self._count += 1

    def remove(self, number: int) -> None:
        """Forget `number`, if it is there."""
        if number >= len(self._rows) or (row := int(self._rows[number])) < 0:
            return
        others = self._others.pop(row, [])
        if self._first[row] != number:
            others.remove(number)
        elif others:
            self._first[row] = others.pop(0)
        else:
            self._first[row] = -1
            self.living -= 1
        if others:
            self._others[row] = others
        self._rows[number] = -1
        self._count -= 1

    def disagreement(self, entries: np.ndarray, mark: int) -> tuple[list[int], list[int]]:
        """The items that are not among `entries` (mark, number, stamp), and those with another stamp there.

        Not those whose entry is later than `mark`: they are newer, not wrong.
        """
        import numpy as np

        numbers = self.numbers
        if not len(numbers):
            return [], []
        size = 1 + int(max(numbers[-1], entries[:, 1].max(initial=0)))
        marks, stamps = np.full(size, -1, np.int64), np.zeros(size, np.int64)
        marks[entries[:, 1]], stamps[entries[:, 1]] = entries[:, 0], entries[:, 2]
        there, same = marks[numbers] >= 0, stamps[numbers] == self._stamps[numbers]
        return numbers[~there].tolist(), numbers[there & ~same & (marks[numbers] <= mark)].tolist()

    def _reserve(self, number: int, row: int) -> None:
        import numpy as np

        if number >= len(self._rows):
            more = max(number + 1, len(self._rows) * 3 // 2) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.full(more, -1, np.int32)])
            self._stamps = np.concatenate([self._stamps, np.zeros(more, np.int64)])
        if row >= len(self._first):
            more = max(row + 1, len(self._first) * 3 // 2) - len(self._first)
            self._first = np.concatenate([self._first, np.full(more, -1, np.int64)])
