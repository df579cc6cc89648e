"""The table of adapters, in the lab's database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainers.adapters.record import AdapterRecord, AdapterStatus

if TYPE_CHECKING:
    from memory.store import Connection

_COLUMNS = ("id", "parent", "base", "status", "created_at", "path")


class AdapterTable:
    """The repository of adapters' records."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, record: AdapterRecord) -> None:
        """Keep a record, replacing the one with its id."""
        row = record.model_dump(mode="json")
        names = (*_COLUMNS, "payload")
        self.connection.execute(
            f"INSERT INTO adapters ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT(id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names[1:])}",
            [*(row[name] for name in _COLUMNS), json.dumps(row)],
        )

    def get(self, id: str) -> AdapterRecord | None:
        """The record with exactly this id, or None."""
        rows = self.connection.execute("SELECT payload FROM adapters WHERE id = ?", (id,))
        return AdapterRecord.model_validate_json(rows[0][0]) if rows else None

    def find(self, status: AdapterStatus | None = None) -> list[AdapterRecord]:
        """All records, or those of one status, the oldest first."""
        rows = self.connection.execute(
            "SELECT payload FROM adapters WHERE ? IS NULL OR status = ? ORDER BY number", (status, status)
        )
        return [AdapterRecord.model_validate_json(row[0]) for row in rows]
