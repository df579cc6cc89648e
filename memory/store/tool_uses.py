"""The table of what tools were in episodes: how often each was offered and called, and which were held out by lot.

It is written with the episode. Totals are kept by triggers, so that a lab of a hundred thousand episodes is summed up
at once.
"""

from __future__ import annotations

from typing import NamedTuple

from memory.records import Episode
from memory.store.connection import Connection
from memory.store.recalls import RecallEvidence

_COLUMNS = "episode, tool, env, engine, adapter, at, won, steps, proposed, made, held_out, propensity"


class ToolTotal(NamedTuple):
    """The episodes of one environment that one engine and adapter (None: the base, or no model) played with a tool in
    them: how many, and of them those that ended, and were won.

    `calling` are those that ended and had a call of it, `calling_won` those of them that were won. `steps` are those at
    which a call was offered, `proposed` the calls that were, `made` those that were made.
    """

    tool: str
    env: str
    engine: str
    adapter: str | None
    episodes: int
    ended: int
    won: int
    calling: int
    calling_won: int
    steps: int
    proposed: int
    made: int
    held_out: int


class ToolEvidence(NamedTuple):
    """What the games say of a tool that one engine and adapter (None: the base) played; `counts` names the tool as it
    would name a reflection."""

    engine: str
    adapter: str | None
    counts: RecallEvidence


class ToolUses:
    """The repository of what tools were in episodes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def put(self, episode: Episode) -> None:
        """Keep what the tools of an episode were in it; what was kept of it before is replaced."""
        won = None if episode.status == "errored" else episode.won
        with self.connection.transaction():
            self.connection.execute("DELETE FROM tool_uses WHERE episode = ?", (episode.id,))
            self.connection.executemany(
                f"INSERT INTO tool_uses ({_COLUMNS}) VALUES ({', '.join('?' * 12)})",
                [
                    (
                        episode.id, use.tool, episode.env, episode.engine, episode.adapter or "", episode.started_at,
                        won, use.steps, use.proposed, use.made, use.held_out, use.propensity,
                    )
                    for use in episode.tools
                ],
            )  # fmt: skip

    def any(self) -> bool:
        """Whether an environment with tools was ever played."""
        return bool(self.connection.execute("SELECT 1 FROM tool_totals WHERE episodes > 0 LIMIT 1"))

    def totals(self) -> list[ToolTotal]:
        """All of it, by tool, environment, and who played."""
        rows = self.connection.execute(
            "SELECT tool, env, engine, nullif(adapter, ''), sum(episodes), sum(ended), sum(won), sum(calling), "
            "sum(calling_won), sum(steps), sum(proposed), sum(made), sum(held_out * episodes) FROM tool_totals "
            "GROUP BY tool, env, engine, adapter HAVING sum(episodes) > 0 ORDER BY tool, env, adapter <> '', adapter, "
            "engine"
        )
        return [ToolTotal(*row) for row in rows]

    def evidence(self, env: str | None = None, *, before: str | None = None) -> list[ToolEvidence]:
        """What the ended episodes in which a lot was drawn over a tool say of it, in this environment or in all: a row
        for each tool, environment, odds and who played. `before` (ISO 8601) bounds when they began."""
        sums = (
            "sum({0} * NOT held_out), sum({1} * NOT held_out), sum({0} * held_out), sum({1} * held_out)"
            " FROM {2} WHERE propensity < 1"
        )
        if before is None:
            counted = sums.format("ended", "won", "tool_totals")
        else:
            counted = sums.format("1", "won", "tool_uses") + " AND won IS NOT NULL AND at < :before"
        rows = self.connection.execute(
            f"SELECT engine, nullif(adapter, ''), tool, env, propensity, {counted} AND (:env IS NULL OR env = :env) "
            "GROUP BY tool, env, propensity, engine, adapter ORDER BY tool, env, propensity, engine, adapter",
            {"env": env, "before": before} if before is not None else {"env": env},
        )
        return [
            ToolEvidence(engine, adapter, RecallEvidence(*counts))
            for engine, adapter, *counts in rows
            if counts[3] or counts[5]
        ]

    def newest(self, tool: str, env: str, limit: int) -> list[str]:
        """The ids of the last episodes of an environment in which a tool was called, the newest first."""
        rows = self.connection.execute(
            "SELECT episode FROM tool_uses WHERE tool = ? AND env = ? AND made > 0 ORDER BY at DESC LIMIT ?",
            (tool, env, limit),
        )
        return [id for (id,) in rows]
