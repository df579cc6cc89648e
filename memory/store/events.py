"""The table of events: how far a program at work says that it is, for those who look on. Rows are only ever added."""

from __future__ import annotations

from typing import Literal, NamedTuple

from memory.records import now
from memory.store.connection import Connection

EventKind = Literal["start", "advance", "finish", "say"]


FURTHEST = 20_000
"""Events behind which no start of a stage is looked for: hours of work."""


class Event(NamedTuple):
    """At a moment, `done` of the `total` units of a stage; or a `note` to the person, which belongs to no stage."""

    number: int
    at: str
    kind: EventKind
    stage: str
    done: int
    total: int
    note: str


class Events:
    """The repository of events."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, kind: EventKind, stage: str = "", done: int = 0, total: int = 0, note: str = "") -> None:
        """Add one, of this moment."""
        self.connection.execute(
            "INSERT INTO events (at, kind, stage, done, total, note) VALUES (?, ?, ?, ?, ?, ?)",
            (now(), kind, stage, done, total, note),
        )

    def last(self, *, limit: int = 200, since: str = "") -> list[Event]:
        """The newest `limit` ones, and before them each start of a stage; none older than `since` (ISO 8601). The
        oldest first.

        How far a stage is, is in its newest event; how long it has been at work, in its start alone.
        """
        rows = self.connection.execute(
            "SELECT number, at, kind, stage, done, total, note FROM events, (SELECT max(number) AS last FROM events) "
            "WHERE number > last - ? AND at >= ? AND (kind = 'start' OR number > last - ?) ORDER BY number",
            (max(limit, FURTHEST), since, limit),
        )
        return [Event(*row) for row in rows]
