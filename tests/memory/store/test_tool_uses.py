"""What tools were in episodes is stored with these, summed up at once, and nothing of it counts twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import Database, Episode
from memory.records import ToolUse
from memory.store import RecallEvidence, ToolEvidence

Maker = Callable[..., Episode]
ENV = "toy/doors?tools=ask+map"


@pytest.fixture
def played(episode: Maker) -> Maker:
    """An episode in which `ask` was called twice and `map` was there."""

    def made(id: str = "ep-1", *, out: str = "", odds: float = 1.0, **values: Any) -> Episode:
        tools = [ToolUse(tool="ask", steps=3, proposed=7, made=2), ToolUse(tool="map", steps=1, proposed=1)]
        if odds < 1:
            drawn = out or "ask"
            tools = [
                use.model_copy(update={"propensity": odds, "held_out": bool(out)}) if use.tool == drawn else use
                for use in tools
            ]
        usual: dict[str, Any] = {"env": ENV, "engine": "tiny", "status": "won", "tools": tools}
        return episode(id, **{**usual, **values})

    return made


def test_totals_tell_by_who_played_how_often_a_tool_was_offered_called_and_won_with(
    database: Database, played: Maker
) -> None:
    assert not database.tool_uses.any() and database.tool_uses.totals() == []
    database.episodes.put(played("ep-1"))
    database.episodes.put(played("ep-2", status="lost"))
    database.episodes.put(played("ep-3", status="errored", error="It died.", error_kind="environment"))
    database.episodes.put(played("ep-4", adapter="adapter-1"))
    database.episodes.put(played("ep-5", minimised_from="ep-1", tools=[]))
    assert database.tool_uses.any()
    totals = {(total.tool, total.adapter): total for total in database.tool_uses.totals()}
    base = totals["ask", None]
    assert (base.env, base.engine, base.episodes, base.ended, base.won) == (ENV, "tiny", 3, 2, 1)
    assert (base.calling, base.calling_won, base.steps, base.proposed, base.made) == (2, 1, 9, 21, 6)
    assert totals["ask", "adapter-1"].episodes == 1 and totals["map", None].calling == 0
    assert database.tool_uses.newest("ask", ENV, 2) and database.tool_uses.newest("map", ENV, 2) == []


def test_an_episode_that_is_stored_again_counts_once(database: Database, played: Maker) -> None:
    database.episodes.put(played(status="errored", error="It died.", error_kind="environment"))
    for _ in range(2):
        database.episodes.put(played())
    (ask, _) = database.tool_uses.totals()
    assert (ask.episodes, ask.ended, ask.won, ask.made) == (1, 1, 1, 2)
    (row,) = database.connection.execute("SELECT sum(episodes), sum(made) FROM tool_totals WHERE tool = 'ask'")
    assert row == (1, 2)


def test_only_ended_games_in_which_a_lot_was_drawn_are_evidence(database: Database, played: Maker) -> None:
    old, new = "2026-01-01T00:00:00", "2026-02-01T00:00:00"
    database.episodes.put(played("ep-1", odds=0.5, started_at=old))
    database.episodes.put(played("ep-2", odds=0.5, out="ask", status="lost", started_at=old))
    database.episodes.put(played("ep-3", odds=0.5, out="ask", started_at=new))
    database.episodes.put(played("ep-4", odds=0.5, status="errored", error="No.", error_kind="engine", started_at=old))
    database.episodes.put(played("ep-5", started_at=old))
    database.episodes.put(played("ep-6", odds=0.5, adapter="adapter-1", status="lost", started_at=new))
    database.episodes.put(played("ep-7", odds=0.5, env="toy/doors?tools=ask", started_at=old))

    def counts(*numbers: int, env: str = ENV) -> RecallEvidence:
        return RecallEvidence("ask", env, 0.5, *numbers)

    assert database.tool_uses.evidence(ENV) == [
        ToolEvidence("tiny", None, counts(1, 1, 2, 1)),
        ToolEvidence("tiny", "adapter-1", counts(1, 0, 0, 0)),
    ]
    assert database.tool_uses.evidence(ENV, before=new) == [ToolEvidence("tiny", None, counts(1, 1, 1, 0))]
    every = database.tool_uses.evidence(before=new)
    assert [row.counts.env for row in every] == ["toy/doors?tools=ask", ENV]


def test_what_is_summed_up_for_a_screen_and_for_a_lot_is_read_from_small_tables(database: Database) -> None:
    for sql in (
        "SELECT sum(won) FROM tool_uses WHERE propensity < 1 AND won IS NOT NULL AND at < '2026' AND env = 'e' "
        "GROUP BY tool, engine, adapter, propensity, held_out",
        "SELECT episode FROM tool_uses WHERE tool = 't' AND env = 'e' AND made > 0 ORDER BY at DESC LIMIT 3",
    ):
        plan = " ".join(row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "tool_uses_" in plan and "ORDER BY" not in plan, plan


def test_an_episode_tells_itself_what_it_was_played_without(database: Database, played: Maker) -> None:
    database.episodes.put(played(odds=0.9, out="map"))
    stored = database.episodes.get("ep-1")
    assert stored.without_tools == ["map"] and stored == played(odds=0.9, out="map", started_at=stored.started_at)


def test_a_database_from_before_there_were_tools_gets_their_tables(
    path: Path, older: Callable[..., Any], played: Maker
) -> None:
    with older(11):
        pass
    with Database(path, readonly=True) as reader:
        assert reader.tool_uses.totals() == [] and not reader.tool_uses.any()
    with Database(path) as database:
        database.episodes.put(played())
        assert [total.tool for total in database.tool_uses.totals()] == ["ask", "map"]
    assert path.with_name("lab.version-11.db").exists()
