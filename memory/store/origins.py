"""Where a reflection comes from, and what is on probation: what came from outside and has not shown yet what it does.

A reflection whose `source` is empty was read off this lab's own episodes. Everything else was brought in, and is on
probation until it is vouched for: by a person, who may also pin it, or by what was measured (`memory.credit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from memory.store.connection import Connection
from memory.store.sql import chunks, marks

CLIENTS = "mcp:"
"""How the sources begin that give themselves their names. They count as one: another name is no other source."""

ON_PROBATION = "(source <> '' AND NOT vouched AND NOT pinned)"
"""The SQL condition that a reflection is on probation, as `Reflection.on_probation` says it."""


class TrialRow(NamedTuple):
    """An ended episode in which a lot decided whether it is served what is on probation, by the reflection it met."""

    source: str
    reflection: str
    episode: str
    at: str
    env: str
    propensity: float
    held_out: int
    won: int


def origin(source: str) -> str:
    """Who answers for what a source brings: the source itself, or all clients together."""
    return CLIENTS if source.startswith(CLIENTS) else source


class Origins:
    """The repository of what is on probation."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def on_probation(self, ids: Sequence[str]) -> dict[str, str]:
        """The origin of each of these reflections that is on probation; others are left out."""
        found: dict[str, str] = {}
        for part in chunks(list(ids)):
            rows = self.connection.execute(
                f"SELECT id, source FROM reflections WHERE id IN {marks(part)} AND {ON_PROBATION}", part
            )
            found.update((id, origin(source)) for id, source in rows)
        return found

    def members(self, origins: Sequence[str], namespace: str | None = None) -> dict[str, list[str]]:
        """The ids of what is in use and on probation, by each of these origins, the oldest first."""
        found: dict[str, list[str]] = {one: [] for one in origins}
        rows = self.connection.execute(
            f"SELECT id, source FROM reflections WHERE source > '' AND {ON_PROBATION} AND namespace = "
            "ifnull(?, namespace) AND status IN ('active', 'repeated') ORDER BY number",
            (namespace,),
        )
        for id, source in rows:
            if origin(source) in found:
                found[origin(source)].append(id)
        return found

    def trials(self, most: float, namespace: str | None = None) -> list[TrialRow]:
        """What lots that serve with a probability below `most` decided about what is on probation and in use now, in
        the order in which it was recalled."""
        rows = self.connection.execute(
            "SELECT source, recalls.reflection, episode, at, recalls.env, propensity, held_out, won FROM reflections "
            "CROSS JOIN recalls ON recalls.reflection = reflections.id "
            f"WHERE source > '' AND {ON_PROBATION} AND status IN ('active', 'repeated') "
            "AND namespace = ifnull(?, namespace) AND propensity < ? AND won IS NOT NULL ORDER BY recalls.rowid",
            (namespace, most),
        )
        return [TrialRow(*row) for row in rows]
