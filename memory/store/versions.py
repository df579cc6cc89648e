"""The table of versions: every reflection as it was from some moment on, and what was done to it then."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from memory.records import Reflection, now
from memory.store.connection import Connection
from memory.store.filters import Filter
from memory.store.merges import family
from memory.store.operations import Operations
from memory.store.sql import marks


@dataclass(frozen=True, slots=True)
class Version:
    """A reflection as it was from `at` on; `change` says what was done to it, `operation` (a number) in which go."""

    version: int
    at: str
    change: str
    reflection: Reflection
    operation: int | None = None


class Versions:
    """The repository of versions. What is added within an operation carries its number."""

    def __init__(self, connection: Connection, operations: Operations) -> None:
        self.connection = connection
        self.operations = operations

    def add(self, number: int, payload: bytes, change: str) -> None:
        """Keep what the reflection with this number is from now on."""
        self.connection.execute(
            "INSERT INTO reflection_versions (reflection, version, at, change, payload, operation) SELECT ?, "
            "ifnull(max(version), 0) + 1, ?, ?, ?, ? FROM reflection_versions WHERE reflection = ?",
            (number, now(), change, payload, self.operations.current, number),
        )

    def of(self, id: str, newest: int = -1) -> list[Version]:
        """Every version of the reflection with exactly this id, or so many of the `newest`, the first one first."""
        rows = self.connection.execute(
            "SELECT version, at, change, versions.payload, operation FROM reflection_versions AS versions "
            "JOIN reflections ON reflections.number = versions.reflection WHERE id = ? ORDER BY version DESC LIMIT ?",
            (id, newest),
        )
        return [
            Version(version, at, change, stored(payload), operation)
            for version, at, change, payload, operation in reversed(rows)
        ]

    def has(self, id: str, change: str) -> bool:
        """True if exactly this `change` was ever made to a reflection."""
        rows = self.connection.execute(
            "SELECT 1 FROM reflection_versions JOIN reflections ON number = reflection WHERE id = ? AND change = ? "
            "LIMIT 1",
            (id, change),
        )
        return bool(rows)

    def last(self, ids: Sequence[str], change: str) -> dict[str, str]:
        """When each of these reflections, or one merged into it, last had a change that begins so (`benched`,
        `retired`); others are left out."""
        found: dict[str, str] = {}
        for root, members in family(self.connection, ids).items():
            rows = self.connection.execute(
                "SELECT max(at) FROM reflections JOIN reflection_versions AS versions "
                f"ON versions.reflection = number WHERE id IN {marks(members)} AND change LIKE ? || '%'",
                [*members, change],
            )
            if rows[0][0] is not None:
                found[root] = rows[0][0]
        return found

    def left_by(self, begins: str, ends: str, wanted: Filter) -> list[str]:
        """The ids of those that are `wanted` and whose last change begins and ends so, the oldest first."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            "SELECT id FROM reflections JOIN reflection_versions AS versions ON versions.reflection = number "
            f"WHERE {where} AND version = (SELECT max(version) FROM reflection_versions WHERE reflection = number) "
            "AND change LIKE ? || '%' AND change LIKE '%' || ? ORDER BY number",
            [*values, begins, ends],
        )
        return [row[0] for row in rows]

    def count_brought_in(self, since: str, source: str, namespace: str | None, *, prefix: bool = False) -> int:
        """How many reflections in use a source has written or imported after a moment, in one namespace or in all.

        With `prefix` all sources that begin so are one.
        """
        named = "source GLOB ? || '*'" if prefix else "source = ?"
        # CROSS JOIN keeps the order: the versions of a day are few, the reflections of a source may be many.
        rows = self.connection.execute(
            "SELECT count(DISTINCT number) FROM reflection_versions AS versions "
            "CROSS JOIN reflections ON number = versions.reflection "
            "WHERE at > ? AND (version = 1 OR change = 'imported') AND namespace = ifnull(?, namespace) "
            f"AND {named} AND status IN ('active', 'repeated')",
            (since, namespace, source),
        )
        return int(rows[0][0])


def stored(payload: bytes) -> Reflection:
    """The reflection that a row of a table holds."""
    return Reflection.stored(zlib.decompress(payload))
