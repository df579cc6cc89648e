"""Pages of episodes, sorted and counted by an index that covers them: the rows, with their payloads, are far longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from memory.store.connection import Connection
from memory.store.episodes import COLUMNS, EpisodeRow, checked
from memory.store.filters import ALL_EPISODES, EpisodeFilter
from memory.store.sql import chunks, marks

Sort = Literal[
    "newest", "oldest", "score", "-score", "steps", "-steps", "tokens", "-tokens", "seconds", "-seconds"
]  # fmt: skip

_ORDERS: dict[str, str] = {
    "newest": "number DESC",
    "oldest": "number",
    **{
        f"{minus}{name}": f"{column} {direction}, number DESC"
        for name, column in {
            "score": "score", "steps": "steps", "tokens": "input_tokens + output_tokens", "seconds": "seconds"
        }.items()
        for minus, direction in (("", "DESC"), ("-", "ASC"))
    },
}  # fmt: skip


Facet = Literal["env", "arm", "split", "status", "adapter", "error_kind"]
"""A property by which episodes are counted."""


class Played(NamedTuple):
    """An episode of a task, by its id, and how it ended."""

    id: str
    task: str
    run: str
    arm: str
    trial: int
    status: str


class EpisodeListing:
    """Episodes for whoever looks through them: counts of their facets, and one page at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def counts(self, by: Sequence[Facet], wanted: EpisodeFilter = ALL_EPISODES) -> dict[tuple[str | None, ...], int]:
        """How many episodes that are `wanted` have each combination of values of these facets."""
        where, values = wanted.sql()
        names = ", ".join(by)
        rows = self.connection.execute(
            f"SELECT {names}, count(*) FROM episodes {_by(wanted)} WHERE {where} GROUP BY {names}", values
        )
        return {tuple(row[:-1]): row[-1] for row in rows}

    def page(
        self, wanted: EpisodeFilter = ALL_EPISODES, sort: Sort = "newest", *, limit: int, offset: int = 0
    ) -> list[EpisodeRow]:
        """At most `limit` light rows of those that are `wanted`, after the first `offset`, in this order."""
        where, values = wanted.sql()
        # The numbers first: they are sorted and cut without reading what the rows hold.
        found = self.connection.execute(
            f"SELECT number FROM episodes {_by(wanted)} WHERE {where} ORDER BY {_ORDERS[sort]} LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        numbers = [number for (number,) in found]
        rows: dict[int, EpisodeRow] = {}
        for part in chunks(numbers):
            read = self.connection.execute(
                f"SELECT number, {', '.join(COLUMNS)} FROM episodes WHERE number IN {marks(part)}", part
            )
            rows.update((number, checked(EpisodeRow(*row))) for number, *row in read)
        return [rows[number] for number in numbers if number in rows]

    def of_tasks(self, tasks: Sequence[str], runs: Sequence[str]) -> list[Played]:
        """What these runs played of these tasks, the oldest first, without shortened forms."""
        found: list[tuple[int, Played]] = []
        for part in chunks(list(tasks)):
            rows = self.connection.execute(
                f"SELECT number, {', '.join(Played._fields)} FROM episodes WHERE task IN {marks(part)} "
                f"AND +run IN {marks(runs)} AND minimised_from IS NULL",
                [*part, *runs],
            )
            found += [(number, Played(*row)) for number, *row in rows]
        return [played for _, played in sorted(found)]


def _by(wanted: EpisodeFilter) -> str:
    """The index that holds all that is asked for, where there is one: SQLite might read the rows instead.

    A goal is looked for in an index of its own, which gives the numbers of the episodes.
    """
    covered = wanted.task is None and wanted.by_model is None
    return "INDEXED BY episodes_listed" if covered else ""
