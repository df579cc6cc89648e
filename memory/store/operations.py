"""What was done in one go: a group of changes that is listed, and undone, as one.

A command that does many things does each as an operation of its own, so that a kill leaves whole ones; what belongs to
one command is a `Batch`, and is undone in one go too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from memory import errors
from memory.records import now
from memory.store.connection import Connection
from memory.store.sql import chunks, full_ids, marks

PURGED = "purged"
"""The name of what deleted reflections for good: a note, of which nothing can be taken back."""

BATCHES = "operations"
"""The scope of the journal that says to which batch an operation belongs, by the operation's id."""


class Operation(NamedTuple):
    """A group of changes: `name` says what kind (`edit`, `merge`, …).

    `changed` is how many changes it made: versions of reflections that it wrote, and `links` that it made, changed or
    removed. `batch` is the id of the batch to which it belongs. `asked_by` says who wanted it, where that is known:
    `cli`, `screen`, or `mcp:` or `chat:` and a client's name.
    """

    number: int
    id: str
    at: str
    name: str
    detail: str
    undone: bool
    changed: int
    links: int = 0
    batch: str | None = None
    asked_by: str = ""


class Batch(NamedTuple):
    """One operation, or all that one command did: `n` of them, `undone` of which are taken back.

    `id` is that of the operation, or of the batch; `changed` counts the changes of all.
    """

    id: str
    at: str
    name: str
    detail: str
    n: int
    undone: int
    changed: int
    asked_by: str = ""


_BATCH = f"LEFT JOIN journal ON journal.scope = '{BATCHES}' AND journal.key = operations.id"
_CHANGED = (
    "(SELECT count(*) FROM reflection_versions WHERE operation = operations.number)",
    "(SELECT count(*) FROM (SELECT source, target, kind FROM links WHERE operation = operations.number "
    "UNION SELECT source, target, kind FROM link_versions WHERE operation = operations.number "
    "OR ended = operations.number))",
)
_SELECT = (
    f"SELECT operations.number, id, operations.at, name, detail, undone, {', '.join(_CHANGED)}, payload, "
    f"asked_by FROM operations {_BATCH}"
)
_CHANGES = (
    "SELECT 1 FROM reflection_versions WHERE operation = :number UNION ALL "
    "SELECT 1 FROM links WHERE operation = :number UNION ALL "
    "SELECT 1 FROM link_versions WHERE operation = :number OR ended = :number LIMIT 1"
)
_TOUCHES = (
    "(EXISTS (SELECT 1 FROM reflection_versions JOIN reflections ON reflections.number = reflection "
    "WHERE operation = operations.number AND namespace = ?) OR EXISTS (SELECT 1 FROM links "
    "JOIN reflections ON reflections.id = links.source WHERE operation = operations.number AND namespace = ?) OR "
    "EXISTS (SELECT 1 FROM link_versions JOIN reflections ON reflections.id = link_versions.source "
    "WHERE (operation = operations.number OR ended = operations.number) AND namespace = ?) "
    f"OR name = '{PURGED}')"
)
"""That an operation reached into a namespace, which is given three times. A link has no namespace but its source's."""


class Operations:
    """The repository of operations; `current` is the number of the one that is being done."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.current: int | None = None
        self._batch: dict[str, str] | None = None
        self._asked_by = ""

    @contextmanager
    def record(self, name: str, detail: str = "") -> Iterator[int]:
        """A transaction whose changes to reflections and links belong together; gives the operation's number.

        Inside another operation it is part of that one. An operation that changed nothing is not kept.
        """
        with self.connection.transaction():
            if self.current is not None:
                yield self.current
                return
            id = f"op-{uuid.uuid4().hex[:12]}"
            self.connection.execute(
                "INSERT INTO operations (id, at, name, detail, asked_by) VALUES (?, ?, ?, ?, ?)",
                (id, now(), name, detail, self._asked_by),
            )
            number = int(self.connection.execute("SELECT last_insert_rowid()")[0][0])
            self.current = number
            try:
                yield number
            finally:
                self.current = None
            if not self.connection.execute(_CHANGES, {"number": number}):
                self.connection.execute("DELETE FROM operations WHERE number = ?", (number,))
            elif self._batch is not None:
                self.connection.execute(
                    "INSERT INTO journal (scope, key, payload, at) VALUES (?, ?, ?, ?)",
                    (BATCHES, id, json.dumps(self._batch), now()),
                )

    @contextmanager
    def asked(self, by: str) -> Iterator[None]:
        """What is recorded inside is noted as wanted by somebody."""
        before, self._asked_by = self._asked_by, by
        try:
            yield
        finally:
            self._asked_by = before

    @contextmanager
    def batch(self, name: str) -> Iterator[str]:
        """What is recorded inside belongs to one command; gives the batch's id. Each is kept as soon as it is done."""
        if self._batch is not None:
            yield self._batch["id"]
            return
        self._batch = {"id": f"ops-{uuid.uuid4().hex[:12]}", "name": name}
        try:
            yield self._batch["id"]
        finally:
            self._batch = None

    def recent(self, *, limit: int | None = None, namespace: str | None = None) -> list[Operation]:
        """What was done, in a namespace or in all, the newest first."""
        where, values = self._where(namespace)
        rows = self.connection.execute(
            f"{_SELECT} WHERE {where} ORDER BY operations.number DESC LIMIT ?",
            [*values, -1 if limit is None else limit],
        )
        return [_operation(row) for row in rows]

    def batches(self, *, limit: int = -1, offset: int = 0, namespace: str | None = None) -> list[Batch]:
        """What was done, in a namespace or in all, each command once, the newest first, from the one at `offset` on."""
        where, values = self._where(namespace)
        rows = self.connection.execute(
            "SELECT payload, max(operations.number) AS last, operations.at, name, detail, id, count(*), sum(undone), "
            f"asked_by FROM operations {_BATCH} WHERE {where} GROUP BY ifnull(payload, id) "
            "ORDER BY last DESC LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        found = []
        for payload, _, at, name, detail, id, n, undone, asked_by in rows:
            which, value = "id = ?", id
            if payload:
                kept, which, value = json.loads(payload), "payload = ?", payload
                id, name, detail = kept["id"], kept["name"], f"{n:,} operation{'' if n == 1 else 's'}"
            ((changed,),) = self.connection.execute(
                f"SELECT sum({' + '.join(_CHANGED)}) FROM operations {_BATCH} WHERE {which}", (value,)
            )
            found.append(Batch(id, at, name, detail, n, undone, changed, asked_by))
        return found

    def count_batches(self, namespace: str | None = None) -> int:
        """How many commands and single operations there were."""
        where, values = self._where(namespace)
        rows = self.connection.execute(
            f"SELECT count(DISTINCT ifnull(payload, id)) FROM operations {_BATCH} WHERE {where}", values
        )
        return int(rows[0][0])

    def of_batch(self, id: str) -> list[Operation]:
        """The operations of a batch, the newest first; a beginning of its id is enough. Raises `UnknownOperation`."""
        rows = self.connection.execute(
            f"{_SELECT} WHERE json_extract(payload, '$.id') >= ? AND json_extract(payload, '$.id') < ? "
            "ORDER BY operations.number DESC",
            (id, id + "\U0010ffff"),
        )
        found = [_operation(row) for row in rows]
        ids = list(dict.fromkeys(str(one.batch) for one in found))
        if not ids:
            raise errors.UnknownOperation(errors.unknown("operation", id, [], "`agentlab memory history`"))
        if len(ids) > 1 and id not in ids:
            raise errors.UnknownOperation(errors.ambiguous("operation", id, ids))
        return [one for one in found if one.batch == (id if id in ids else ids[0])]

    def batch_name(self, id: str) -> str:
        """The name of the command that a batch is of; empty if there is no such batch."""
        rows = self.connection.execute(
            "SELECT json_extract(payload, '$.name') FROM journal WHERE scope = ? AND json_extract(payload, '$.id') = ? "
            "LIMIT 1",
            (BATCHES, id),
        )
        return str(rows[0][0]) if rows else ""

    def get(self, id: str) -> Operation:
        """One operation; a beginning of its id is enough. Raises `UnknownOperation`."""
        found = full_ids(self.connection, "operations", id)
        if not found:
            near = [operation.id for operation in self.recent(limit=200)]
            raise errors.UnknownOperation(errors.unknown("operation", id, near, "`agentlab memory history`"))
        if len(found) > 1:
            raise errors.UnknownOperation(errors.ambiguous("operation", id, found))
        return _operation(self.connection.execute(f"{_SELECT} WHERE id = ?", (found[0],))[0])

    def by_number(self, numbers: Sequence[int]) -> dict[int, Operation]:
        """The operations with these numbers."""
        found: dict[int, Operation] = {}
        for part in chunks(numbers):
            rows = self.connection.execute(f"{_SELECT} WHERE operations.number IN {marks(part)}", part)
            found.update((row[0], _operation(row)) for row in rows)
        return found

    def id_of(self, number: int) -> str | None:
        """The id of the operation with this number; None if it was not kept, since it changed nothing."""
        rows = self.connection.execute("SELECT id FROM operations WHERE number = ?", (number,))
        return rows[0][0] if rows else None

    def namespaces(self, number: int) -> set[str]:
        """Those into which an operation reached."""
        rows = self.connection.execute(
            "SELECT namespace FROM reflection_versions JOIN reflections ON reflections.number = reflection "
            "WHERE operation = :number UNION SELECT namespace FROM links JOIN reflections ON id = links.source "
            "WHERE operation = :number UNION SELECT namespace FROM link_versions "
            "JOIN reflections ON id = link_versions.source WHERE operation = :number OR ended = :number",
            {"number": number},
        )
        return {row[0] for row in rows}

    def note(self, name: str, detail: str) -> None:
        """Keep that something was done of which nothing can be taken back."""
        self.connection.execute(
            "INSERT INTO operations (id, at, name, detail) VALUES (?, ?, ?, ?)",
            (f"op-{uuid.uuid4().hex[:12]}", now(), name, detail),
        )

    def drop_empty(self, numbers: Sequence[int]) -> None:
        """Delete those of these operations of which no change is left."""
        for number in numbers:
            if not self.connection.execute(_CHANGES, {"number": number}):
                self.connection.execute(
                    f"DELETE FROM journal WHERE scope = '{BATCHES}' "
                    "AND key = (SELECT id FROM operations WHERE number = ?)",
                    (number,),
                )
                self.connection.execute("DELETE FROM operations WHERE number = ?", (number,))

    def mark_undone(self, number: int, undone: bool = True) -> None:
        """Note that an operation was taken back (or done again)."""
        self.connection.execute("UPDATE operations SET undone = ? WHERE number = ?", (undone, number))

    def _where(self, namespace: str | None) -> tuple[str, list[str]]:
        return ("1", []) if namespace is None else (_TOUCHES, [namespace] * 3)


def _operation(row: tuple[Any, ...]) -> Operation:
    number, id, at, name, detail, undone, versions, links, payload, asked_by = row
    batch = json.loads(payload)["id"] if payload else None
    return Operation(number, id, at, name, detail, bool(undone), versions + links, links, batch, asked_by)
