"""Pages of episodes, sorted and counted by an index that covers them: the rows, with their payloads, are far longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from memory.store.connection import Connection
from memory.store.episodes import EpisodeRow, checked
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

_LISTED = (
    "number", "env", "arm", "split", "status", "adapter", "error_kind", "run", "trial", "score", "steps",
    "input_tokens", "output_tokens", "cost", "seconds", "started_at", "minimised_from",
)  # fmt: skip
_OTHERS = ("id", "task", "seed", "engine", "goal", "error")


class Group(NamedTuple):
    """How many episodes there are of these facets; `shortened` of the `n` are shortened forms, which nobody played."""

    env: str
    arm: str
    split: str
    status: str
    adapter: str | None
    error_kind: str | None
    n: int
    shortened: int


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

    def groups(self, wanted: EpisodeFilter = ALL_EPISODES) -> list[Group]:
        """The episodes that are `wanted`, counted by their facets."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            "SELECT env, ifnull(arm, ''), split, status, adapter, error_kind, count(*), count(minimised_from) "
            f"FROM episodes {_by(wanted)} WHERE {where} GROUP BY env, arm, split, status, adapter, error_kind",
            values,
        )
        return [Group(*row) for row in rows]

    def page(
        self, wanted: EpisodeFilter = ALL_EPISODES, sort: Sort = "newest", *, limit: int, offset: int = 0
    ) -> list[EpisodeRow]:
        """At most `limit` light rows of those that are `wanted`, after the first `offset`, in this order."""
        where, values = wanted.sql()
        listed = self.connection.execute(
            f"SELECT {', '.join(_LISTED)} FROM episodes {_by(wanted)} WHERE {where} "
            f"ORDER BY {_ORDERS[sort]} LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        others: dict[int, tuple[Any, ...]] = {}
        for part in chunks([row[0] for row in listed]):
            rows = self.connection.execute(
                f"SELECT number, {', '.join(_OTHERS)} FROM episodes WHERE number IN {marks(part)}", part
            )
            others.update((number, tuple(row)) for number, *row in rows)
        return [
            checked(
                EpisodeRow(
                    **dict(zip(_LISTED[1:], row[1:], strict=True)), **dict(zip(_OTHERS, others[row[0]], strict=True))
                )
            )
            for row in listed
            if row[0] in others  # gone since, if another process deleted it
        ]

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
    """The index that holds all that is asked for, where there is one: SQLite might read the rows instead."""
    covered = wanted.task is None and wanted.goal is None and wanted.by_model is None
    return "INDEXED BY episodes_listed" if covered else ""
