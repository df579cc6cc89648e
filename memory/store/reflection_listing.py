"""Which reflections a listing shows and in which order, and how many there are of each sort.

All of it is answered from the index `reflections_listed`, where what is asked stands in it: the rows themselves, with
their texts and payloads, are far longer. Only tags and what is merged where are not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from memory.store.connection import Connection
from memory.store.filters import Filter
from memory.store.sql import chunks, marks

if TYPE_CHECKING:
    import numpy as np

Order = Literal["newest", "importance"]

_ORDERS: dict[Order, str] = {
    "newest": "created_at DESC, number DESC",
    "importance": "pinned DESC, importance DESC, created_at DESC, number DESC",
}


class ReflectionFacet(NamedTuple):
    """How many (`n`) reflections have these properties; `pinned` is 0 or 1."""

    status: str
    tier: str
    kind: str
    source: str
    env: str
    pinned: int
    n: int


FEW = 5000
"""Reflections that are looked up by their numbers; of more, the index of all of them is read."""


class Listing:
    """The reflections that are `wanted`, of `among` these numbers if they are given."""

    def __init__(self, connection: Connection, wanted: Filter, among: Sequence[int] | None = None) -> None:
        self.connection = connection
        where, self._values = wanted.sql()
        if among is not None:
            where += " AND number IN (SELECT value FROM json_each(?))"
            self._values = [*self._values, json.dumps(list(map(int, among)))]
        covered = wanted.tag is None and wanted.merged_into is None and not wanted.text_only
        covered = covered and wanted.on_probation is None
        few = among is not None and len(among) <= FEW
        # Without being told, SQLite takes a shorter index and reads the rows for the rest, or for a few a whole index.
        # Where all rows have to be read, they are read one after the other.
        aside = "NOT INDEXED " if few or wanted.tag is not None else ""
        index = aside or ("INDEXED BY reflections_listed " if covered else "")
        self._from = f"FROM reflections {index}WHERE {where}"

    def facets(self) -> list[ReflectionFacet]:
        """How many there are of each sort."""
        # In the order of the index, so that nothing is sorted.
        rows = self._run(
            f"SELECT status, tier, kind, source, env, pinned, count(*) {self._from} GROUP BY 1, 2, 3, 4, 5, 6"
        )
        return [ReflectionFacet._make((*names, pins or 0, n)) for *names, pins, n in rows]

    def count(self) -> int:
        """How many there are."""
        ((n,),) = self._run(f"SELECT count(*) {self._from}")
        return int(n)

    def numbers(self) -> np.ndarray:
        """The numbers of all, in no order: int64, (n,)."""
        import numpy as np

        # As one text, which takes a third of the time of as many rows.
        ((found,),) = self._run(f"SELECT group_concat(number) {self._from}")
        return np.fromstring(found or "", dtype=np.int64, sep=",")

    def page(self, order: Order, limit: int, offset: int = 0) -> list[int]:
        """The numbers of some of them, in an order, from the one at `offset` on."""
        rows = self._run(f"SELECT number {self._from} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?", limit, offset)
        return [number for (number,) in rows]

    def _run(self, sql: str, *more: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, [*self._values, *more])


def repeat_counts(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """How many reflections are counted with each of these, directly; those with none are left out."""
    found: dict[str, int] = {}
    for part in chunks(ids):
        found.update(
            connection.execute(
                f"SELECT merged_into, count(*) FROM reflections WHERE merged_into IN {marks(part)} GROUP BY 1", part
            )
        )
    return found
