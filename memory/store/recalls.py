"""The table of recalls: which reflection served which episode, and how that episode ended.

An episode counts once for a reflection, in whichever channel the reflection came first. The totals of these counts are
kept by triggers, so that weighing a popular reflection does not mean reading its thousands of recalls. Only of what
took over others are the recalls read, since there an episode may have met several of the family (`merges`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from memory.records import Recall
from memory.store.connection import Connection
from memory.store.filters import Filter
from memory.store.merges import families, first_assignments
from memory.store.sql import chunks, marks

_COLUMNS = "episode, reflection, channel, rank, query, score, parts, at, won, env, held_out, propensity, step"


_OF = "reflection IN (SELECT value FROM json_each(?))"
"""That a recall is of one of these reflections, however many they are."""


class RecallCount(NamedTuple):
    """How often a reflection was recalled: episodes served, those of them won, those of them ended."""

    n: int
    n_won: int
    n_ended: int


class Served(NamedTuple):
    """Whom a reflection has served: `RecallCount`, and when it was recalled last."""

    n: int
    n_won: int
    n_ended: int
    last: str


class RecallEvidence(NamedTuple):
    """The ended episodes of one environment in which a lot, with these odds, decided whether to serve a reflection."""

    reflection: str
    env: str
    propensity: float
    served: int
    served_won: int
    held_out: int
    held_out_won: int


class Played(NamedTuple):
    """Episodes that this adapter played (None: the base), or with `others` that any other or the base played."""

    adapter: str | None
    others: bool = False

    @property
    def sql(self) -> str:
        """A query for their ids; it takes the adapter."""
        return f"SELECT id FROM episodes WHERE adapter {'IS NOT' if self.others else 'IS'} ?"


@dataclass(frozen=True, slots=True)
class RecallFilter:
    """Which recalls are evidence, and of which reflections; None leaves a property open.

    `ids` names reflections, `among` says which are meant. `after` and `before` (ISO 8601, exclusive) bound the time of
    the recall, `played` says which adapter played. `least` is how many episodes served and held out a reflection must
    have in all.
    """

    ids: Sequence[str] | None = None
    env: str | None = None
    after: str | None = None
    before: str | None = None
    among: Filter | None = None
    least: tuple[int, int] = (0, 0)
    played: Played | None = None


ALL_RECALLS = RecallFilter()


class Recalls:
    """The repository of recalls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, recalls: Sequence[Recall]) -> None:
        """Keep `recalls`. One reflection served to one episode in one channel counts once, however often it was asked
        for.

        So an episode that is resumed after a kill does not count twice. The first query and score are kept.
        """
        self.connection.executemany(
            f"INSERT INTO recalls ({_COLUMNS}, counted) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))}, "
            "NOT EXISTS (SELECT 1 FROM recalls WHERE episode = ? AND reflection = ?)) "
            "ON CONFLICT(episode, reflection, channel) DO NOTHING",
            [
                (
                    recall.episode, recall.reflection, recall.channel, recall.rank, recall.query, recall.score,
                    json.dumps(recall.parts), recall.at, recall.won, recall.env, recall.held_out, recall.propensity,
                    recall.step, recall.episode, recall.reflection,
                )
                for recall in recalls
            ],
        )  # fmt: skip

    def set_outcome(self, episode_id: str, won: bool) -> None:
        """Note on all recalls that served this episode whether it was won."""
        self.connection.execute("UPDATE recalls SET won = ? WHERE episode = ?", (won, episode_id))

    def of_reflection(self, reflection_id: str) -> list[Recall]:
        """Every recall of one reflection, the oldest first."""
        return self._recalls("reflection = ?", reflection_id)

    def page(self, ids: Sequence[str], limit: int, offset: int = 0) -> list[Recall]:
        """Some recalls of these reflections, the newest first, from the one at `offset` on."""
        rows = self.connection.execute(
            f"SELECT rowid FROM recalls WHERE {_OF} ORDER BY at DESC, rank, rowid LIMIT ? OFFSET ?",
            [json.dumps(list(ids)), limit, offset],
        )
        which = ", ".join(str(row) for (row,) in rows)
        return self._recalls(f"rowid IN ({which}) AND ? = 1", 1, order="at DESC, rank, rowid") if rows else []

    def count_of(self, ids: Sequence[str]) -> int:
        """How many recalls these reflections have."""
        rows = self.connection.execute(f"SELECT count(*) FROM recalls WHERE {_OF}", (json.dumps(list(ids)),))
        return int(rows[0][0])

    def totals(self) -> tuple[int, ...]:
        """A few sums that differ after any recall was kept, ended, or taken away."""
        rows = self.connection.execute("SELECT count(*), sum(n), sum(ended), sum(won) FROM recall_totals")
        return tuple(value or 0 for value in rows[0])

    def as_they_came(self, reflection_id: str) -> list[Recall]:
        """Every recall of one reflection, in the order in which they were kept: an episode counts by its first."""
        return self._recalls("reflection = ?", reflection_id, order="rowid")

    def of_episode(self, episode_id: str) -> list[Recall]:
        """Every recall that served one episode, the best ranked first."""
        return self._recalls("episode = ?", episode_id)

    def _recalls(self, where: str, value: str | int, order: str = "at, rank") -> list[Recall]:
        rows = self.connection.execute(f"SELECT {_COLUMNS} FROM recalls WHERE {where} ORDER BY {order}", (value,))
        names = _COLUMNS.split(", ")
        return [
            Recall.stored(
                dict(zip(names, row, strict=True)) | {"parts": json.loads(row[6])}
            )
            for row in rows
        ]  # fmt: skip

    def served(self, ids: Sequence[str] | None = None) -> dict[str, Served]:
        """Whom each of these reflections, or of all, has served, in all channels; those that have served nobody are
        left out.

        What was merged into it counts, each episode once.
        """
        found: dict[str, Served] = {}
        merged = bool(self.connection.execute("SELECT 1 FROM reflections WHERE merged_into IS NOT NULL LIMIT 1"))
        for part in [None] if ids is None else chunks(ids):
            among = f"reflection IN {marks(part)} AND " if part is not None else ""
            rows = self.connection.execute(
                "SELECT reflection, sum(n), sum(won), sum(ended), max(CASE WHEN n THEN last END) FROM recall_totals "
                f"WHERE {among}NOT held_out GROUP BY reflection",
                part or (),
            )
            if merged:
                rows += self.connection.execute(
                    f"{families(part)} SELECT root, count(DISTINCT episode), "
                    "count(DISTINCT CASE WHEN won THEN episode END), "
                    "count(DISTINCT CASE WHEN won IS NOT NULL THEN episode END), max(at) "
                    "FROM family JOIN recalls ON reflection = member WHERE NOT held_out GROUP BY root",
                    part or (),
                )
            found.update((row[0], Served(*row[1:])) for row in rows if row[1])
        return found

    def counts(self, ids: Sequence[str]) -> dict[str, RecallCount]:
        """For each of these reflections how often it was recalled and how that ended; never recalled is (0, 0, 0)."""
        found = self.served(ids)
        return {id: RecallCount(*found[id][:3]) if id in found else RecallCount(0, 0, 0) for id in ids}

    def last(self, ids: Sequence[str]) -> dict[str, str]:
        """When each of these reflections, or one merged into it, was recalled last; others are left out."""
        return {id: found.last for id, found in self.served(ids).items()}

    def served_in(self, episodes: Iterable[str]) -> dict[str, int]:
        """In how many of these episodes each reflection served; others are left out.

        A shortened episode was never played: what served is known of the one that it was made from.
        """
        counts: dict[str, int] = {}
        for part in chunks(sorted(set(episodes))):
            rows = self.connection.execute(
                "SELECT reflection, count(DISTINCT episodes.id) FROM episodes JOIN recalls "
                "ON recalls.episode IN (episodes.id, episodes.minimised_from) "
                f"WHERE episodes.id IN {marks(part)} AND NOT held_out GROUP BY reflection",
                part,
            )
            for reflection, count in rows:
                counts[reflection] = counts.get(reflection, 0) + count
        return counts

    def together(self, id: str, others: Sequence[str]) -> dict[str, int]:
        """How many episodes a reflection served together with each of these others; those with none are left out."""
        rows = self.connection.execute(
            "SELECT other.reflection, count(DISTINCT one.episode) FROM recalls AS one "
            "JOIN recalls AS other ON other.episode = one.episode AND NOT other.held_out "
            f"WHERE one.reflection = ? AND NOT one.held_out AND other.reflection IN {marks(others)} "
            "GROUP BY other.reflection",
            [id, *others],
        )
        return {other: count for other, count in rows}

    def together_by_link(self, kind: str, namespace: str) -> dict[tuple[str, str], int]:
        """How many episodes both ends of each link of this kind served, by (source, target)."""
        rows = self.connection.execute(
            "SELECT links.source, target, count(DISTINCT one.episode) FROM links "
            "JOIN reflections ON reflections.id = links.source "
            "JOIN recalls AS one ON one.reflection = links.source AND NOT one.held_out "
            "JOIN recalls AS other ON other.reflection = target AND other.episode = one.episode AND NOT other.held_out "
            "WHERE links.kind = ? AND namespace = ? GROUP BY links.source, target",
            (kind, namespace),
        )
        return {(source, target): count for source, target, count in rows}

    def count(self, namespace: str) -> tuple[int, int]:
        """How many recalls the reflections of a namespace have, and how many of these were held out."""
        rows = self.connection.execute(
            "SELECT count(*), ifnull(sum(held_out), 0) FROM recalls "
            "JOIN reflections ON reflections.id = recalls.reflection WHERE namespace = ?",
            (namespace,),
        )
        return rows[0][0], rows[0][1]

    def never_served(self, namespace: str) -> int:
        """How many active reflections of a namespace, with what was merged into them, have served nobody."""
        rows = self.connection.execute(
            "WITH RECURSIVE served (id) AS (SELECT reflection FROM recall_totals WHERE n AND NOT held_out "
            "UNION SELECT merged_into FROM served JOIN reflections USING (id) WHERE merged_into IS NOT NULL) "
            "SELECT count(*) FROM reflections WHERE status = 'active' AND id NOT IN served AND namespace = ?",
            (namespace,),
        )
        return int(rows[0][0])

    # Evidence

    def randomised(self, ids: Sequence[str] | None = None) -> set[str]:
        """Those of these reflections, or of all, over which, or over one merged into them, a lot was ever drawn."""
        found: set[str] = set()
        for part in [None] if ids is None else chunks(ids):
            among = f"reflection IN {marks(part)} AND " if part is not None else ""
            rows = self.connection.execute(
                f"SELECT DISTINCT reflection FROM recall_totals WHERE {among}n AND propensity < 1", part or ()
            )
            rows += self.connection.execute(
                f"{families(part)} SELECT DISTINCT root FROM family JOIN recall_totals ON reflection = member "
                "WHERE n AND propensity < 1",
                part or (),
            )
            found.update(row[0] for row in rows)
        return found

    def evidence(self, wanted: RecallFilter = ALL_RECALLS) -> list[RecallEvidence]:
        """What episodes that drew lots say of the reflections that are `wanted`, by reflection, environment and odds.

        Episodes that have not ended, or ended in an error, are left out, and so are recalls that no lot decided. What
        was merged into another speaks for that one (see `merges`), and for itself only where it is asked for by its id.
        """
        found: list[RecallEvidence] = []
        for part in [None] if wanted.ids is None else chunks(wanted.ids):
            kin = self.connection.execute(f"{families(part)} SELECT root, member FROM family", part or ())
            joined = {root for root, _ in kin} | {member for _, member in kin if part is None}
            here = replace(wanted, ids=part)
            alone = self._evidence(here)
            found += [row for row in alone if row.reflection not in joined] if joined else alone
            found += self._family_evidence(here) if joined else []
        return found

    def _evidence(self, wanted: RecallFilter) -> list[RecallEvidence]:
        """Of each reflection by itself, from the totals."""
        where, values = ["propensity < 1"], list[Any]()
        if wanted.ids is not None:
            where.append(f"reflection IN {marks(wanted.ids)}")
            values += wanted.ids
        if wanted.env is not None:
            where.append("env = ?")
            values.append(wanted.env)
        if wanted.among is not None:
            condition, bounds = wanted.among.sql()
            where.append(f"reflection IN (SELECT id FROM reflections WHERE {condition})")
            values += bounds
        table = "recall_totals"
        if wanted.after is not None or wanted.before is not None or wanted.played is not None:
            # The totals know no times; this reads the recalls themselves, in an index that covers them.
            table = "(SELECT *, 1 AS ended FROM recalls WHERE counted AND propensity < 1 AND won IS NOT NULL)"
            if wanted.played is not None:
                where.append(f"episode IN ({wanted.played.sql})")
                values.append(wanted.played.adapter)
            for operator, bound in ((">", wanted.after), ("<", wanted.before)):
                if bound is not None:
                    where.append(f"at {operator} ?")
                    values.append(bound)
        grouped = (
            "SELECT reflection, env, propensity, sum(ended * NOT held_out) AS served, sum(won * NOT held_out), "
            f"sum(ended * held_out) AS held_out, sum(won * held_out) FROM {table} WHERE {' AND '.join(where)} "
            "GROUP BY reflection, env, propensity"
        )
        if max(wanted.least):
            # A window over the strata of each reflection.
            grouped = (
                f"SELECT * FROM (SELECT *, sum(served) OVER each AS a, sum(held_out) OVER each AS b FROM ({grouped}) "
                "WINDOW each AS (PARTITION BY reflection)) WHERE a >= ? AND b >= ?"
            )
            values += wanted.least
        rows = self.connection.execute(grouped, values)
        return [RecallEvidence(*row[:7]) for row in rows if row[3] or row[5]]

    def _family_evidence(self, wanted: RecallFilter) -> list[RecallEvidence]:
        """Of those that took over others, from the recalls of the whole family."""
        meant, values = "", list[Any]()
        if wanted.among is not None:
            condition, values = wanted.among.sql()
            meant = f"AND root IN (SELECT id FROM reflections WHERE {condition})"
        if wanted.played is not None:
            meant += f" AND episode IN ({wanted.played.sql})"
            values.append(wanted.played.adapter)
        rows = self.connection.execute(
            f"{families(wanted.ids)} SELECT root, episode, at, env, propensity, held_out, won FROM family "
            f"JOIN recalls ON reflection = member WHERE counted {meant} ORDER BY root, episode, at",
            [*(wanted.ids or ()), *values],
        )
        env, after, before = wanted.env, wanted.after, wanted.before
        counts: dict[str, dict[tuple[str, float], list[int]]] = {}
        for lot in first_assignments(rows):
            apart = env not in (None, lot.env) or (after and lot.at <= after) or (before and lot.at >= before)
            if lot.propensity < 1 and lot.won is not None and not apart:
                count = counts.setdefault(lot.root, {}).setdefault((lot.env, lot.propensity), [0, 0, 0, 0])
                count[2 * lot.held_out] += 1
                count[2 * lot.held_out + 1] += lot.won
        found: list[RecallEvidence] = []
        for root, strata in counts.items():
            if all(sum(count[2 * side] for count in strata.values()) >= wanted.least[side] for side in (0, 1)):
                found += [RecallEvidence(root, *stratum, *count) for stratum, count in sorted(strata.items())]
        return found

    def episode_count(self, *, before: str | None = None) -> int:
        """How many ended episodes there are for which something was recalled (before a time, ISO 8601)."""
        return int(
            self.connection.execute(
                "SELECT count(DISTINCT episode) FROM recalls WHERE won IS NOT NULL AND (? IS NULL OR at < ?)",
                (before, before),
            )[0][0]
        )

    def draws(self, episode_id: str) -> dict[str, tuple[bool, float]]:
        """What was decided for this episode, by reflection: (held out, probability of being served)."""
        rows = self.connection.execute(
            "SELECT reflection, held_out, propensity FROM recalls WHERE episode = ? AND counted", (episode_id,)
        )
        return {reflection: (bool(held_out), propensity) for reflection, held_out, propensity in rows}
