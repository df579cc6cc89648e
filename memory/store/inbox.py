"""The inbox: small changes that are asked for while another process writes, which that one folds in.

Whoever asks adds a row, for which no lock is needed; whoever writes does what it says and marks it, in one transaction.
Anybody who can write to the file can write anything here, so that all of it is read as bytes and taken for nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from memory.records import now
from memory.store.connection import Connection

LARGEST = 500_000
"""Bytes of what one row may ask."""
SHORT = 300
"""Bytes that are read of a verb, and of who asks."""


class Entry(NamedTuple):
    """A row: who asks for what, as it stands there. `payload` is None where it is more than `LARGEST`.

    When it was done, `outcome` says what came of it, in the words of whoever did it; or `refusal`, in a line, why not.
    """

    number: int
    at: str
    asked_by: str
    verb: str
    payload: bytes | None
    done_at: str | None = None
    outcome: str | None = None
    refusal: str | None = None


class Inbox:
    """The repository of what is asked for."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, asked_by: str, verb: str, payload: str) -> int:
        """Ask for something; gives the number of the row."""
        rows = self.connection.execute(
            "INSERT INTO inbox (at, asked_by, verb, payload) VALUES (?, ?, ?, ?) RETURNING number",
            (now(), asked_by, verb, payload),
        )
        return int(rows[0][0])

    def get(self, number: int) -> Entry | None:
        """A row; None if there is none of this number."""
        found = self._entries("number = ?", (number,))
        return found[0] if found else None

    def next(self) -> Entry | None:
        """The first row that waits."""
        found = self._entries("done_at IS NULL", ())
        return found[0] if found else None

    def waiting(self) -> tuple[int, str]:
        """How many rows wait, and since when the first of them does."""
        rows = self.connection.execute(
            f"SELECT count(*), CAST(min(substr(CAST(at AS BLOB), 1, {SHORT})) AS BLOB) FROM inbox WHERE done_at IS NULL"
        )
        return int(rows[0][0]), _text(rows[0][1])

    def refused(self, since: str, limit: int = 5) -> list[Entry]:
        """What was refused since a moment (ISO 8601) and nobody was told of, the newest first."""
        rows = self.connection.execute(
            "SELECT number FROM inbox WHERE refusal IS NOT NULL AND done_at >= ? ORDER BY number DESC LIMIT ?",
            (since, limit),
        )
        return [entry for (number,) in rows if (entry := self.get(number)) is not None]

    def discard(self, number: int) -> None:
        """Take out a row whose refusal was told to whoever had asked."""
        self.connection.execute("DELETE FROM inbox WHERE number = ? AND refusal IS NOT NULL", (number,))

    def last(self) -> int:
        """The number of the newest row that waits; 0 if none does."""
        return int(self.connection.execute("SELECT ifnull(max(number), 0) FROM inbox WHERE done_at IS NULL")[0][0])

    def settle(self, number: int, *, outcome: str = "", refusal: str | None = None) -> None:
        """Note that a row is done, or refused. What it asked is kept no longer: its text may be purged one day."""
        self.connection.execute(
            "UPDATE inbox SET done_at = ?, outcome = ?, refusal = ?, payload = '' WHERE number = ?",
            (now(), outcome, refusal, number),
        )

    def _entries(self, where: str, values: tuple[Any, ...]) -> list[Entry]:
        # As bytes: what is no UTF-8 would fail here, and keep all that stands behind it.
        columns = [f"substr(CAST({name} AS BLOB), 1, {SHORT})" for name in ("at", "asked_by", "verb")]
        rows = self.connection.execute(
            f"SELECT number, {', '.join(columns)}, "
            f"CASE WHEN length(CAST(payload AS BLOB)) <= {LARGEST} THEN CAST(payload AS BLOB) END, "
            "CAST(done_at AS BLOB), CAST(outcome AS BLOB), CAST(refusal AS BLOB) "
            f"FROM inbox WHERE {where} ORDER BY number LIMIT 1",
            values,
        )
        return [_entry(*row) for row in rows]


def _entry(
    number: int,
    at: bytes,
    asked_by: bytes,
    verb: bytes,
    payload: bytes | None,
    done_at: bytes | None,
    outcome: bytes | None,
    refusal: bytes | None,
) -> Entry:
    done = [None if one is None else _text(one) for one in (done_at, outcome, refusal)]
    return Entry(number, _text(at), _text(asked_by), _text(verb), payload, *done)


def _text(found: bytes | None) -> str:
    return (found or b"").decode("utf-8", "replace")
