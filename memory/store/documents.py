"""Tables of JSON objects by id, for what is read whole and never searched: rounds and evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from memory.records import now
from memory.store.connection import Connection


class Documents:
    """The repository of the JSON objects in one table."""

    def __init__(self, connection: Connection, table: Literal["rounds", "evaluations"]) -> None:
        self.connection = connection
        self.table = table

    def put(self, id: str, payload: Mapping[str, Any]) -> None:
        """Keep an object, replacing the one with its id."""
        self.connection.execute(
            f"INSERT INTO {self.table} (id, payload, at) VALUES (?, ?, ?) "
            "ON CONFLICT(id) DO UPDATE SET payload = excluded.payload, at = excluded.at",
            (id, json.dumps(payload), now()),
        )

    def get(self, id: str) -> dict[str, Any] | None:
        """The object with exactly this id, or None."""
        rows = self.connection.execute(f"SELECT payload FROM {self.table} WHERE id = ?", (id,))
        return json.loads(rows[0][0]) if rows else None

    def all(self) -> dict[str, dict[str, Any]]:
        """All objects by id, the oldest first."""
        rows = self.connection.execute(f"SELECT id, payload FROM {self.table} ORDER BY number")
        return {id: json.loads(payload) for id, payload in rows}
