"""The table of single values that a lab keeps."""

from __future__ import annotations

import json
from typing import Any

from memory.store.connection import Connection


class Settings:
    """The repository of single values by name, such as which adapter serves. They are JSON."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, key: str, default: Any = None) -> Any:
        """The value of this name, or `default`."""
        rows = self.connection.execute("SELECT value FROM settings WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else default

    def put(self, key: str, value: Any) -> None:
        """Keep a value (anything that JSON can hold)."""
        self.connection.execute(
            "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
            (key, json.dumps(value)),
        )

    def drop(self, key: str) -> None:
        """Keep no value of this name."""
        self.connection.execute("DELETE FROM settings WHERE key = ?", (key,))
