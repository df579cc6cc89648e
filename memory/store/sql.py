"""Pieces of SQL statements: conditions, lists of parameters, and ids of which only a beginning is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from memory.store.connection import Connection

Row = TypeVar("Row", bound=NamedTuple)

CHUNK = 500
"""How many ids go into one statement; SQLite's builds differ in how many parameters they take."""


def full_ids(connection: Connection, table: str, beginning: str, wanted: dict[str, Any] | None = None) -> list[str]:
    """The id itself if `table` has it, else up to four ids that begin so; only where the `wanted` columns fit."""
    where, values = conditions(wanted or {})
    fits = " AND ".join(where)
    if connection.execute(f"SELECT 1 FROM {table} WHERE id = ? AND {fits}", [beginning, *values]):
        return [beginning]
    if not beginning:
        return []
    # A range rather than LIKE: it uses the index, and % and _ in what was typed mean nothing.
    rows = connection.execute(
        f"SELECT id FROM {table} WHERE id >= ? AND id < ? AND {fits} ORDER BY id LIMIT 4",
        [beginning, beginning + "\U0010ffff", *values],
    )
    return [row[0] for row in rows]


def conditions(wanted: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """SQL conditions for the columns whose wanted value is not None, and their values. Never empty."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return [f"{name} = ?" for name in given] or ["1"], list(given.values())


def chunks(items: Sequence[Any], most: int = CHUNK) -> Iterator[list[Any]]:
    """`items` in lists of at most `most`."""
    rest = iter(items)
    while part := list(islice(rest, most)):
        yield part


def marks(items: Sequence[Any]) -> str:
    """`(?, ?, …)`, one for each of `items`."""
    return f"({', '.join('?' * len(items))})"
