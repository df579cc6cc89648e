"""The table of episodes: whole records for training and replay, light rows for listings."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from memory import errors
from memory.records import Episode, Status
from memory.store.connection import Connection

CHUNK = 500
"""How many ids go into one statement; SQLite's builds differ in how many parameters they take."""

AT_ONCE = 20
"""How many whole episodes are read at once where they come one after the other."""

_COLUMNS = (
    "id", "run", "env", "split", "seed", "task", "trial", "arm", "engine", "adapter", "status", "score", "steps",
    "goal", "error", "minimised_from", "started_at", "seconds",
)  # fmt: skip
_PUT = (
    f"INSERT INTO episodes ({', '.join(_COLUMNS)}, payload) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))}) "
    "ON CONFLICT(id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[1:], "payload"))
)


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """An episode without its steps and tokens; `steps` is their number, `seconds` how long it took."""

    id: str
    run: str
    env: str
    split: str
    seed: int
    task: str
    trial: int
    arm: str
    engine: str
    adapter: str | None
    status: Status
    score: float
    steps: int
    goal: str
    error: str | None
    minimised_from: str | None
    started_at: str
    seconds: float

    @property
    def won(self) -> bool:
        return self.status == "won"


class Episodes(Connection):
    """What can be done with episodes."""

    def put_episode(self, episode: Episode) -> None:
        """Keep `episode`; one with the same id is replaced. When this returns, a kill can no longer lose it."""
        # Level 1: an episode shrinks about as far as at the default level, in a fraction of the time.
        payload = zlib.compress(episode.model_dump_json().encode(), 1)
        row = (
            episode.id, episode.run, episode.env, episode.split, episode.seed, episode.task_id, episode.trial,
            episode.arm, episode.engine, episode.adapter, episode.status, episode.score, len(episode.steps),
            episode.goal, episode.error, episode.minimised_from, episode.started_at, episode.seconds, payload,
        )  # fmt: skip
        self.execute(_PUT, row)

    def episode(self, id: str) -> Episode:
        """The whole episode. A beginning of its id is enough if it fits no other.

        Raises:
            UnknownEpisode: with the nearest id, or with those that the beginning fits.
        """
        found = full_ids(self, "episodes", id)
        if not found:
            near = [row[0] for row in self.execute("SELECT id FROM episodes ORDER BY number DESC LIMIT 2000")]
            listing = "`agentlab episodes`" if near else "there are no episodes yet: `agentlab run` plays some, and"
            raise errors.UnknownEpisode(errors.unknown("episode", id, near, listing))
        if len(found) > 1:
            raise errors.UnknownEpisode(errors.ambiguous("episode", id, found))
        return _episode(self.execute("SELECT payload FROM episodes WHERE id = ?", found)[0][0])

    def episodes(
        self,
        *,
        run: str | None = None,
        env: str | None = None,
        split: str | None = None,
        task: str | None = None,
        arm: str | None = None,
        adapter: str | None = None,
        status: Status | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> list[EpisodeRow]:
        """Light rows of the episodes that fit every filter, oldest first, or the `newest` first.

        `adapter=""` means those played without an adapter.
        """
        wanted = {"run": run, "env": env, "split": split, "task": task, "arm": arm, "status": status}
        where, values = conditions(wanted)
        if adapter is not None:
            where.append("ifnull(adapter, '') = ?")
            values.append(adapter)
        rows = self.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM episodes WHERE {' AND '.join(where)} "
            f"ORDER BY number {'DESC' if newest else 'ASC'} LIMIT ?",
            [*values, -1 if limit is None else limit],
        )
        return [_row(EpisodeRow(*row)) for row in rows]

    def load_episodes(self, ids: Sequence[str]) -> list[Episode]:
        """The whole episodes with exactly these ids, in this order.

        Raises:
            UnknownEpisode: if one of them is not there.
        """
        payloads: dict[str, bytes] = {}
        for part in chunks(ids):
            payloads.update(self.execute(f"SELECT id, payload FROM episodes WHERE id IN {marks(part)}", part))
        missing = [id for id in ids if id not in payloads]
        if missing:
            raise errors.UnknownEpisode(errors.unknown("episode", missing[0], list(payloads), "`agentlab episodes`"))
        return [_episode(payloads[id]) for id in ids]

    def each_episode(self, ids: Iterable[str]) -> Iterator[Episode]:
        """The whole episodes with these ids, in this order, of which only a few are held at once.

        Raises:
            UnknownEpisode: if one of them is not there.
        """
        waiting = iter(ids)
        while part := list(islice(waiting, AT_ONCE)):
            yield from self.load_episodes(part)


def _row(row: EpisodeRow) -> EpisodeRow:
    """The row, unless its score is no number, as earlier versions stored it: such an episode counts as errored."""
    known = isinstance(row.score, int | float) and math.isfinite(row.score)
    return row if known else replace(row, score=0.0, status="errored")


def _episode(payload: bytes) -> Episode:
    stored = zlib.decompress(payload)
    episode = Episode.stored(stored)
    # Earlier versions kept the bonus as it was before its strength, which grew by half with each trial unless that was
    # set otherwise, and nothing of what was cut. (No text has this in it: its quotes are escaped.)
    if b',"cut":' not in stored:
        strength = episode.strength * (1 + episode.trial / 2)
        for step in episode.steps:
            step.bonus = step.bonus and [strength * extra for extra in step.bonus]
    return episode


def full_ids(connection: Connection, table: str, beginning: str, wanted: dict[str, Any] | None = None) -> list[str]:
    """The id itself if `table` has it, else up to four ids that begin so; only where the `wanted` columns fit."""
    where, values = conditions(wanted or {})
    fits = " AND ".join(where)
    if connection.execute(f"SELECT 1 FROM {table} WHERE id = ? AND {fits}", [beginning, *values]):
        return [beginning]
    if not beginning:
        return []
    # A range rather than LIKE: it uses the index, and % and _ in what was typed mean nothing.
    rows = connection.execute(
        f"SELECT id FROM {table} WHERE id >= ? AND id < ? AND {fits} ORDER BY id LIMIT 4",
        [beginning, beginning + "\U0010ffff", *values],
    )
    return [row[0] for row in rows]


def conditions(wanted: dict[str, Any]) -> tuple[list[str], list[Any]]:
    """SQL conditions for the columns whose wanted value is not None, and their values. Never empty."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return [f"{name} = ?" for name in given] or ["1"], list(given.values())


def chunks(items: Sequence[Any], most: int = CHUNK) -> Iterator[list[Any]]:
    """`items` in lists of at most `most`."""
    rest = iter(items)
    while part := list(islice(rest, most)):
        yield part


def marks(items: Sequence[Any]) -> str:
    """`(?, ?, …)`, one for each of `items`."""
    return f"({', '.join('?' * len(items))})"
