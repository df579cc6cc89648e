"""The table of episodes: whole records for training and replay, light rows for listings."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from memory import errors
from memory.records import Episode, ErrorKind, Status
from memory.store.connection import Connection
from memory.store.filters import ALL_EPISODES, EpisodeFilter
from memory.store.sql import Row, chunks, full_ids, marks
from memory.store.tool_uses import ToolUses

AT_ONCE = 20
"""How many whole episodes are read at once where they come one after the other."""

COLUMNS = (
    "id", "run", "env", "split", "seed", "task", "trial", "arm", "engine", "adapter", "status", "score", "steps",
    "goal", "error", "minimised_from", "started_at", "seconds", "error_kind", "input_tokens", "output_tokens", "cost",
)  # fmt: skip
_PUT = (
    f"INSERT INTO episodes ({', '.join(COLUMNS)}, payload) VALUES ({', '.join('?' * (len(COLUMNS) + 1))}) "
    "ON CONFLICT(id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS[1:], "payload"))
)


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """An episode without its steps and tokens; `steps` is their number, `seconds` how long it took,
    tokens (read and written) and `cost` (US dollars) what the model took."""

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
    error_kind: ErrorKind | None
    input_tokens: int
    output_tokens: int
    cost: float

    @property
    def won(self) -> bool:
        return self.status == "won"


class Results(NamedTuple):
    """How `n` episodes of one run, arm and split ended."""

    run: str
    arm: str
    split: str
    won: int
    n: int


class Totals(NamedTuple):
    """How many episodes there are, how they ended, and what they took."""

    n: int
    won: int
    lost: int
    truncated: int
    errored: int
    steps: int
    seconds: float
    input_tokens: int
    output_tokens: int
    cost: float


class Episodes:
    """The repository of episodes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._tools = ToolUses(connection)

    def put(self, episode: Episode) -> None:
        """Keep `episode`; one with the same id is replaced. When this returns, a kill can no longer lose it."""
        # Level 1: an episode shrinks about as far as at the default level, in a fraction of the time.
        payload = zlib.compress(episode.model_dump_json().encode(), 1)
        row = (
            episode.id, episode.run, episode.env, episode.split, episode.seed, episode.task_id, episode.trial,
            episode.arm, episode.engine, episode.adapter, episode.status, episode.score, len(episode.steps),
            episode.goal, episode.error, episode.minimised_from, episode.started_at, episode.seconds,
            episode.error_kind, episode.usage.input_tokens, episode.usage.output_tokens, episode.usage.cost, payload,
        )  # fmt: skip
        if not episode.tools:
            self.connection.execute(_PUT, row)
            return
        with self.connection.transaction():
            self.connection.execute(_PUT, row)
            self._tools.put(episode)

    def get(self, id: str) -> Episode:
        """The whole episode. A beginning of its id is enough if it fits no other.

        Raises:
            UnknownEpisode: with the nearest id, or with those that the beginning fits.
        """
        found = full_ids(self.connection, "episodes", id)
        if not found:
            near = [
                row[0] for row in self.connection.execute("SELECT id FROM episodes ORDER BY number DESC LIMIT 2000")
            ]
            listing = "`agentlab episodes`" if near else "there are no episodes yet: `agentlab run` plays some, and"
            raise errors.UnknownEpisode(errors.unknown("episode", id, near, listing))
        if len(found) > 1:
            raise errors.UnknownEpisode(errors.ambiguous("episode", id, found))
        return _episode(self.connection.execute("SELECT payload FROM episodes WHERE id = ?", found)[0][0])

    def find(
        self, wanted: EpisodeFilter = ALL_EPISODES, *, limit: int | None = None, newest: bool = False
    ) -> list[EpisodeRow]:
        """Light rows of the episodes that are `wanted`, the oldest first, or the `newest` first."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM episodes WHERE {where} "
            f"ORDER BY number {'DESC' if newest else 'ASC'} LIMIT ?",
            [*values, -1 if limit is None else limit],
        )
        return [checked(EpisodeRow(*row)) for row in rows]

    def select(self, row: type[Row], wanted: EpisodeFilter = ALL_EPISODES) -> list[Row]:
        """The episodes that are `wanted`, the oldest first, each as a named tuple `row` of some of its columns."""
        where, values = wanted.sql()
        columns = ", ".join(row._fields)
        rows = self.connection.execute(f"SELECT {columns} FROM episodes WHERE {where} ORDER BY number", values)
        return [row._make(found) for found in rows]

    def rows(self, ids: Iterable[str]) -> list[EpisodeRow]:
        """Light rows of the episodes with exactly these ids, the oldest first; ids that nothing has are left out."""
        found: list[tuple[int, EpisodeRow]] = []
        for part in chunks(sorted(set(ids))):
            rows = self.connection.execute(
                f"SELECT number, {', '.join(COLUMNS)} FROM episodes WHERE id IN {marks(part)}", part
            )
            found += [(number, checked(EpisodeRow(*row))) for number, *row in rows]
        return [row for _, row in sorted(found, key=lambda item: item[0])]

    def learned_from(self, row: type[Row], namespace: str, splits: Sequence[str], *, after: int = 0) -> list[Row]:
        """The episodes of these splits on whose task and run a namespace has a reflection, the oldest first.

        Each is a named tuple `row` of some of its columns. `after` is the number of the last one that is known. Errored
        and shortened ones were not lived to their end and are left out.
        """
        rows = self.connection.execute(
            f"SELECT {', '.join(row._fields)} FROM episodes WHERE number > ? AND status <> 'errored' "
            f"AND minimised_from IS NULL AND split IN {marks(splits)} AND EXISTS (SELECT 1 "
            "FROM reflections WHERE reflections.task = episodes.task AND reflections.run = episodes.run "
            "AND namespace = ?) ORDER BY number",
            [after, *splits, namespace],
        )
        return [row._make(found) for found in rows]

    def count(self, wanted: EpisodeFilter = ALL_EPISODES) -> int:
        """How many episodes are `wanted`."""
        where, values = wanted.sql()
        return int(self.connection.execute(f"SELECT count(*) FROM episodes WHERE {where}", values)[0][0])

    def newest(self) -> int:
        """The number of the newest episode; 0 if there is none."""
        return int(self.connection.execute("SELECT ifnull(max(number), 0) FROM episodes")[0][0])

    def load(self, ids: Sequence[str]) -> list[Episode]:
        """The whole episodes with exactly these ids, in this order.

        Raises:
            UnknownEpisode: if one of them is not there.
        """
        payloads: dict[str, bytes] = {}
        for part in chunks(ids):
            payloads.update(
                self.connection.execute(f"SELECT id, payload FROM episodes WHERE id IN {marks(part)}", part)
            )
        missing = [id for id in ids if id not in payloads]
        if missing:
            raise errors.UnknownEpisode(errors.unknown("episode", missing[0], list(payloads), "`agentlab episodes`"))
        return [_episode(payloads[id]) for id in ids]

    def each(self, ids: Iterable[str]) -> Iterator[Episode]:
        """The whole episodes with these ids, in this order, of which only a few are held at once.

        Raises:
            UnknownEpisode: if one of them is not there.
        """
        waiting = iter(ids)
        while part := list(islice(waiting, AT_ONCE)):
            yield from self.load(part)

    def success_rates(self, envs: Iterable[str], *, before: str | None = None) -> dict[str, float]:
        """The rate of success in each of these environments over all episodes played there: (won + 1) / (n + 2)."""
        rates = {}
        for env in envs:
            won, n = self.connection.execute(
                "SELECT ifnull(sum(status = 'won'), 0), count(*) FROM episodes WHERE env = ? AND status <> 'errored' "
                "AND minimised_from IS NULL AND (? IS NULL OR started_at < ?)",
                (env, before, before),
            )[0]
            rates[env] = (won + 1) / (n + 2)
        return rates

    def results_of(self, adapter: str) -> list[Results]:
        """How the first trials that an adapter played went, by run, arm and split; what began first comes first."""
        rows = self.connection.execute(
            "SELECT run, arm, split, sum(status = 'won'), count(*) FROM episodes INDEXED BY episodes_listed "
            "WHERE adapter = ? AND trial = 0 AND status <> 'errored' AND minimised_from IS NULL "
            "GROUP BY run, arm, split ORDER BY min(started_at)",
            (adapter,),
        )
        return [Results(*row) for row in rows]

    def runs(self, wanted: EpisodeFilter = ALL_EPISODES) -> set[str]:
        """The runs that have an episode that is `wanted`."""
        where, values = wanted.sql()
        return {run for (run,) in self.connection.execute(f"SELECT DISTINCT run FROM episodes WHERE {where}", values)}

    def last_seed(self, wanted: EpisodeFilter, runs: Sequence[str]) -> int | None:
        """The greatest seed that one of these runs played of what is `wanted`; None if none did."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            f"SELECT max(seed) FROM episodes WHERE {where} AND run IN {marks(runs)}", [*values, *runs]
        )
        seed: int | None = rows[0][0]
        return seed

    def time_taken(self, wanted: EpisodeFilter) -> tuple[float, int]:
        """The seconds and the steps of all episodes that are `wanted`; errors left out."""
        where, values = wanted.sql()
        rows = self.connection.execute(
            "SELECT ifnull(sum(seconds), 0), ifnull(sum(steps), 0) FROM episodes "
            f"WHERE {where} AND status <> 'errored'",
            values,
        )
        return rows[0][0], rows[0][1]

    def totals(self, wanted: EpisodeFilter = ALL_EPISODES) -> Totals:
        """All episodes that are `wanted`, counted and summed; shortened forms of others, which nobody played, are left
        out."""
        where, values = wanted.sql()
        ended = ", ".join(f"ifnull(sum(status = '{status}'), 0)" for status in ("won", "lost", "truncated", "errored"))
        took = ", ".join(
            f"ifnull(sum({name}), 0)" for name in ("steps", "seconds", "input_tokens", "output_tokens", "cost")
        )
        rows = self.connection.execute(
            f"SELECT count(*), {ended}, {took} FROM episodes WHERE {where} AND minimised_from IS NULL", values
        )
        return Totals(*rows[0])


def checked(row: EpisodeRow) -> EpisodeRow:
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
