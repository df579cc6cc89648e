"""What was done in one go: a group of changes that is listed, and undone, as one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from memory import errors
from memory.records import now
from memory.store.connection import Connection
from memory.store.sql import full_ids


class Operation(NamedTuple):
    """A group of changes: `name` says what kind (`edit`, `merge`, …).

    `changed` is how many changes it made: versions of reflections that it wrote, and `links` that it made, changed or
    removed.
    """

    number: int
    id: str
    at: str
    name: str
    detail: str
    undone: bool
    changed: int
    links: int = 0


_SELECT = (
    "SELECT number, id, at, name, detail, undone, "
    "(SELECT count(*) FROM reflection_versions WHERE operation = operations.number), (SELECT count(*) FROM "
    "(SELECT source, target, kind FROM links WHERE operation = operations.number UNION SELECT source, target, kind "
    "FROM link_versions WHERE operation = operations.number OR ended = operations.number)) FROM operations"
)
_CHANGES = (
    "SELECT 1 FROM reflection_versions WHERE operation = :number UNION ALL "
    "SELECT 1 FROM links WHERE operation = :number UNION ALL "
    "SELECT 1 FROM link_versions WHERE operation = :number OR ended = :number LIMIT 1"
)


class Operations:
    """The repository of operations; `current` is the number of the one that is being done."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.current: int | None = None

    @contextmanager
    def record(self, name: str, detail: str = "") -> Iterator[int]:
        """A transaction whose changes to reflections and links belong together; gives the operation's number.

        Inside another operation it is part of that one. An operation that changed nothing is not kept.
        """
        with self.connection.transaction():
            if self.current is not None:
                yield self.current
                return
            self.connection.execute(
                "INSERT INTO operations (id, at, name, detail) VALUES (?, ?, ?, ?)",
                (f"op-{uuid.uuid4().hex[:12]}", now(), name, detail),
            )
            number = int(self.connection.execute("SELECT last_insert_rowid()")[0][0])
            self.current = number
            try:
                yield number
            finally:
                self.current = None
            if not self.connection.execute(_CHANGES, {"number": number}):
                self.connection.execute("DELETE FROM operations WHERE number = ?", (number,))

    def recent(self, *, limit: int | None = None) -> list[Operation]:
        """What was done, the newest first."""
        rows = self.connection.execute(f"{_SELECT} ORDER BY number DESC LIMIT ?", (-1 if limit is None else limit,))
        return [_operation(row) for row in rows]

    def get(self, id: str) -> Operation:
        """One operation; a beginning of its id is enough. Raises `UnknownOperation`."""
        found = full_ids(self.connection, "operations", id)
        if not found:
            near = [operation.id for operation in self.recent(limit=200)]
            raise errors.UnknownOperation(errors.unknown("operation", id, near, "`agentlab memory history`"))
        if len(found) > 1:
            raise errors.UnknownOperation(errors.ambiguous("operation", id, found))
        row = self.connection.execute(f"{_SELECT} WHERE id = ?", (found[0],))[0]
        return _operation(row)

    def mark_undone(self, number: int, undone: bool = True) -> None:
        """Note that an operation was taken back (or done again)."""
        self.connection.execute("UPDATE operations SET undone = ? WHERE number = ?", (undone, number))


def _operation(row: tuple[Any, ...]) -> Operation:
    number, id, at, name, detail, undone, versions, links = row
    return Operation(number, id, at, name, detail, bool(undone), versions + links, links)
