"""The table of work that is done, so that a killed run goes on behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from memory.records import now
from memory.store.connection import Connection


class Journal:
    """The repository of finished items of work: by scope and key, each with its result (a JSON object)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, scope: str, key: str) -> dict[str, Any] | None:
        """What was written for this item of work, or None if it is not done."""
        rows = self.connection.execute("SELECT payload FROM journal WHERE scope = ? AND key = ?", (scope, key))
        return json.loads(rows[0][0]) if rows else None

    def put(self, scope: str, key: str, payload: Mapping[str, Any]) -> None:
        """Note that an item of work is done, with its result; a second note replaces the first."""
        self.connection.execute(
            "INSERT INTO journal (scope, key, payload, at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT(scope, key) DO UPDATE SET payload = excluded.payload, at = excluded.at",
            (scope, key, json.dumps(payload), now()),
        )

    def clear(self, scope: str) -> None:
        """Note that nothing of one scope is done."""
        self.connection.execute("DELETE FROM journal WHERE scope = ?", (scope,))

    def items(self, scope: str) -> dict[str, dict[str, Any]]:
        """All items of one scope, in the order in which they were first done."""
        rows = self.connection.execute("SELECT key, payload FROM journal WHERE scope = ? ORDER BY number", (scope,))
        return {key: json.loads(payload) for key, payload in rows}
