"""The small tables: resumable work, adapters, settings, rounds, evaluations, and vectors already computed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memory import errors
from memory.records import now
from memory.store.connection import Connection
from memory.store.episodes import chunks, conditions, marks

if TYPE_CHECKING:
    import numpy as np

_ADAPTER = ("id", "parent", "base", "status", "created_at", "path")


class LabTables(Connection):
    """What can be done with the small tables. Payloads are JSON objects."""

    # The journal: work items that are done, so that a killed run goes on behind them.

    def journal_get(self, scope: str, key: str) -> dict[str, Any] | None:
        """What was written for this item of work, or None if it is not done."""
        rows = self.execute("SELECT payload FROM journal WHERE scope = ? AND key = ?", (scope, key))
        return json.loads(rows[0][0]) if rows else None

    def journal_put(self, scope: str, key: str, payload: Mapping[str, Any]) -> None:
        """Note that an item of work is done, with its result; a second note replaces the first."""
        self.execute(
            "INSERT INTO journal (scope, key, payload, at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT(scope, key) DO UPDATE SET payload = excluded.payload, at = excluded.at",
            (scope, key, json.dumps(payload), now()),
        )

    def journal_clear(self, scope: str) -> None:
        """Note that nothing of one scope is done."""
        self.execute("DELETE FROM journal WHERE scope = ?", (scope,))

    def journal_items(self, scope: str) -> dict[str, dict[str, Any]]:
        """All items of one scope, in the order in which they were first done."""
        rows = self.execute("SELECT key, payload FROM journal WHERE scope = ? ORDER BY number", (scope,))
        return {key: json.loads(payload) for key, payload in rows}

    # Adapters

    def put_adapter(self, record: Mapping[str, Any]) -> None:
        """Keep an adapter's record, replacing the one with its id.

        It must have `id`, `base`, `status`, `created_at` and `path` (relative to the lab folder), may have `parent`,
        and whatever else can be JSON.

        Raises:
            MemoryStoreError: if one of these is not there.
        """
        missing = [name for name in _ADAPTER if name != "parent" and record.get(name) is None]
        if missing:
            raise errors.MemoryStoreError(f"An adapter's record lacks {', '.join(missing)}; give it and put it again.")
        columns = (*_ADAPTER, "payload")
        self.execute(
            f"INSERT INTO adapters ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
            f"ON CONFLICT(id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns[1:])}",
            [*(record.get(name) for name in _ADAPTER), json.dumps(dict(record))],
        )

    def get_adapter(self, id: str) -> dict[str, Any] | None:
        """The record with exactly this id, as it was put, or None."""
        rows = self.execute("SELECT payload FROM adapters WHERE id = ?", (id,))
        return json.loads(rows[0][0]) if rows else None

    def list_adapters(self, *, status: str | None = None, base: str | None = None) -> list[dict[str, Any]]:
        """The records that fit, the oldest first."""
        where, values = conditions({"status": status, "base": base})
        rows = self.execute(f"SELECT payload FROM adapters WHERE {' AND '.join(where)} ORDER BY number", values)
        return [json.loads(row[0]) for row in rows]

    # Settings

    def get_setting(self, key: str, default: Any = None) -> Any:
        """A value that the lab keeps, such as which adapter serves, or `default`."""
        rows = self.execute("SELECT value FROM settings WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else default

    def put_setting(self, key: str, value: Any) -> None:
        """Keep a value (anything that JSON can hold)."""
        self.execute(
            "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
            (key, json.dumps(value)),
        )

    # Rounds and evaluations

    def put_round(self, id: str, payload: Mapping[str, Any]) -> None:
        """Keep a round's record, replacing the one with its id."""
        self._put("rounds", id, payload)

    def get_round(self, id: str) -> dict[str, Any] | None:
        """A round's record, or None."""
        return self._all("rounds", id).get(id)

    def list_rounds(self) -> dict[str, dict[str, Any]]:
        """All rounds by id, the oldest first."""
        return self._all("rounds")

    def put_evaluation(self, id: str, payload: Mapping[str, Any]) -> None:
        """Keep an evaluation's record, replacing the one with its id."""
        self._put("evaluations", id, payload)

    def get_evaluation(self, id: str) -> dict[str, Any] | None:
        """An evaluation's record, or None."""
        return self._all("evaluations", id).get(id)

    def list_evaluations(self) -> dict[str, dict[str, Any]]:
        """All evaluations by id, the oldest first."""
        return self._all("evaluations")

    def _put(self, table: str, id: str, payload: Mapping[str, Any]) -> None:
        self.execute(
            f"INSERT INTO {table} (id, payload, at) VALUES (?, ?, ?) "
            "ON CONFLICT(id) DO UPDATE SET payload = excluded.payload, at = excluded.at",
            (id, json.dumps(payload), now()),
        )

    def _all(self, table: str, id: str | None = None) -> dict[str, dict[str, Any]]:
        where, values = conditions({"id": id})
        rows = self.execute(f"SELECT id, payload FROM {table} WHERE {' AND '.join(where)} ORDER BY number", values)
        return {name: json.loads(payload) for name, payload in rows}

    # Vectors

    def get_vectors(self, model: str, shas: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors (float32, one dimension) that `model` gave for texts with these SHA-256, as far as known."""
        import numpy as np

        found: dict[str, np.ndarray] = {}
        for part in chunks(shas):
            rows = self.execute(
                f"SELECT sha, vector FROM vectors WHERE model = ? AND sha IN {marks(part)}", [model, *part]
            )
            found.update((sha, np.frombuffer(blob, dtype="<f4")) for sha, blob in rows)
        return found

    def put_vectors(self, model: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep what `model` gave for texts, by the SHA-256 of each."""
        self.executemany(
            "INSERT INTO vectors (model, sha, vector) VALUES (?, ?, ?) "
            "ON CONFLICT(model, sha) DO UPDATE SET vector = excluded.vector",
            [(model, sha, vector.astype("<f4").tobytes()) for sha, vector in vectors.items()],
        )
