"""The table of recalls: which reflection served which episode, and how that episode ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from memory.connection import Connection
from memory.episodes import chunks, marks
from memory.records import Recall

_COLUMNS = "episode, reflection, face, rank, query, score, parts, at, won, env, withheld, propensity"


class RecallCount(NamedTuple):
    """How often a reflection was recalled: episodes served, those of them won, those of them ended."""

    n: int
    n_won: int
    n_ended: int


class Recalls(Connection):
    """What can be done with recalls."""

    def put_recalls(self, recalls: Sequence[Recall]) -> None:
        """Keep `recalls`. One reflection served to one episode in one face counts once, however often it was asked for.

        So an episode that is resumed after a kill does not count twice. The first query and score are kept.
        """
        self.executemany(
            f"INSERT INTO recalls ({_COLUMNS}) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))}) "
            "ON CONFLICT(episode, reflection, face) DO NOTHING",
            [
                (
                    recall.episode, recall.reflection, recall.face, recall.rank, recall.query, recall.score,
                    json.dumps(recall.parts), recall.at, recall.won, recall.env, recall.withheld, recall.propensity,
                )
                for recall in recalls
            ],
        )  # fmt: skip

    def set_recall_outcome(self, episode_id: str, won: bool) -> None:
        """Note on all recalls that served this episode whether it was won."""
        self.execute("UPDATE recalls SET won = ? WHERE episode = ?", (won, episode_id))

    def recalls_of(self, reflection_id: str) -> list[Recall]:
        """Every recall of one reflection, the oldest first."""
        return self._recalls("reflection = ?", reflection_id)

    def recalls_for(self, episode_id: str) -> list[Recall]:
        """Every recall that served one episode, the best ranked first."""
        return self._recalls("episode = ?", episode_id)

    def _recalls(self, where: str, value: str) -> list[Recall]:
        rows = self.execute(f"SELECT {_COLUMNS} FROM recalls WHERE {where} ORDER BY at, rank", (value,))
        return [
            Recall(
                episode=row[0], reflection=row[1], face=row[2], rank=row[3], query=row[4], score=row[5],
                parts=json.loads(row[6]), at=row[7], won=None if row[8] is None else bool(row[8]), env=row[9],
                withheld=bool(row[10]), propensity=row[11],
            )
            for row in rows
        ]  # fmt: skip

    def recall_counts(self, ids: Sequence[str]) -> dict[str, RecallCount]:
        """For each of these reflections how often it was recalled and how that ended; never recalled is (0, 0, 0)."""
        found = dict.fromkeys(ids, RecallCount(0, 0, 0))
        for part in chunks(ids):
            # Distinct episodes: one that was served text and advice of a reflection is one episode.
            rows = self.execute(
                "SELECT reflection, count(DISTINCT episode), count(DISTINCT CASE WHEN won THEN episode END), "
                "count(DISTINCT CASE WHEN won IS NOT NULL THEN episode END) FROM recalls "
                f"WHERE reflection IN {marks(part)} AND NOT withheld GROUP BY reflection",
                part,
            )
            found.update((row[0], RecallCount(*row[1:])) for row in rows)
        return found

    def last_recalled(self, ids: Sequence[str]) -> dict[str, str]:
        """When each of these reflections was recalled last; those that never were are left out."""
        found: dict[str, str] = {}
        for part in chunks(ids):
            found.update(
                self.execute(
                    f"SELECT reflection, max(at) FROM recalls WHERE reflection IN {marks(part)} AND NOT withheld "
                    "GROUP BY reflection",
                    part,
                )
            )
        return found
