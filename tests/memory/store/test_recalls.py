"""Recalls count the episodes that a reflection served, and how those ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import Database, Episode, Recall, Reflection, errors
from memory.store import RecallFilter
from memory.store.filters import Filter
from memory.store.recalls import RecallCount, RecallEvidence


def recall(episode: str, reflection: str = "rf-1", **values: object) -> Recall:
    return Recall(episode=episode, reflection=reflection, **{"rank": 0, "query": "coin", "score": 1.5, **values})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def known(request: pytest.FixtureRequest, reflection: Callable[..., Reflection]) -> None:
    if "database" not in request.fixturenames:
        return
    database: Database = request.getfixturevalue("database")
    database.reflections.put(reflection("rf-1"))
    database.reflections.put(reflection("rf-2"))


def test_a_recall_comes_back_as_it_was(database: Database) -> None:
    served = recall("ep-1", parts={"relevance": 0.25}, channel="exemplar")
    database.recalls.put([served])
    assert database.recalls.of_reflection("rf-1") == [served]
    assert database.recalls.of_episode("ep-1") == [served]


def test_recalls_are_counted_by_episode_with_their_outcomes(database: Database) -> None:
    database.recalls.put([recall("ep-1"), recall("ep-1", channel="advice"), recall("ep-2"), recall("ep-3")])
    database.recalls.set_outcome("ep-1", True)
    database.recalls.set_outcome("ep-2", False)
    assert database.recalls.counts(["rf-1", "rf-2"]) == {"rf-1": RecallCount(3, 1, 2), "rf-2": RecallCount(0, 0, 0)}
    assert [item.won for item in database.recalls.of_reflection("rf-1")] == [True, True, False, None]


def test_a_recall_repeated_after_a_kill_counts_once_and_keeps_its_outcome(database: Database) -> None:
    database.recalls.put([recall("ep-1")])
    database.recalls.set_outcome("ep-1", True)
    database.recalls.put([recall("ep-1", score=0.1)])
    (kept,) = database.recalls.of_reflection("rf-1")
    assert (kept.score, kept.won) == (1.5, True)


def test_the_last_recall_is_known(database: Database) -> None:
    database.recalls.put([recall("ep-1", at="2025-01-01"), recall("ep-2", at="2025-02-01")])
    assert database.recalls.last(["rf-1", "rf-2"]) == {"rf-1": "2025-02-01"}


def test_a_recall_of_nothing_is_refused(database: Database) -> None:
    with pytest.raises(errors.MemoryStoreError, match="keep what it refers to first"):
        database.recalls.put([recall("ep-1", "rf-3")])


def test_totals_follow_every_change_of_the_recalls(database: Database) -> None:
    database.recalls.put([recall("ep-1", env="toy", at="2025-01-01"), recall("ep-2", env="toy", at="2025-01-02")])
    database.recalls.set_outcome("ep-1", True)
    database.recalls.set_outcome("ep-1", False)
    assert database.recalls.counts(["rf-1"]) == {"rf-1": RecallCount(2, 0, 1)}
    database.connection.execute("UPDATE recalls SET reflection = 'rf-2' WHERE episode = 'ep-1'")
    assert database.recalls.counts(["rf-1", "rf-2"]) == {"rf-1": RecallCount(1, 0, 0), "rf-2": RecallCount(1, 0, 1)}
    database.connection.execute("DELETE FROM recalls WHERE episode = 'ep-1'")
    assert database.recalls.counts(["rf-2"]) == {"rf-2": RecallCount(0, 0, 0)}
    assert "rf-2" not in database.recalls.last(["rf-2"])


def test_what_was_held_out_is_neither_served_nor_recalled(database: Database) -> None:
    database.recalls.put([recall("ep-1", held_out=True, propensity=0.9)])
    assert database.recalls.counts(["rf-1"]) == {"rf-1": RecallCount(0, 0, 0)}
    assert database.recalls.last(["rf-1"]) == {}


def lots(database: Database, *rows: tuple[str, str, bool, bool | None], at: str = "2025-01-01") -> None:
    """Recalls at random: (episode, reflection, held out, won)."""
    for episode, reflection, held_out, won in rows:
        database.recalls.put([recall(episode, reflection, held_out=held_out, propensity=0.9, env="toy", at=at)])
        if won is not None:
            database.recalls.set_outcome(episode, won)


def test_evidence_is_what_ended_after_a_lot(database: Database) -> None:
    lots(
        database,
        ("ep-1", "rf-1", False, True), ("ep-2", "rf-1", False, False), ("ep-3", "rf-1", True, True),
        ("ep-4", "rf-1", True, None), ("ep-5", "rf-2", True, False),
    )  # fmt: skip
    database.recalls.put([recall("ep-3", channel="advice", held_out=True, propensity=0.9, env="toy")])
    database.recalls.put([recall("ep-6", env="toy", won=True)])  # served for certain
    one, other = (RecallEvidence("rf-1", "toy", 0.9, 2, 1, 1, 1), RecallEvidence("rf-2", "toy", 0.9, 0, 0, 1, 0))
    assert database.recalls.evidence() == [one, other]
    assert database.recalls.evidence(RecallFilter(ids=["rf-2"])) == [other]
    assert database.recalls.evidence(RecallFilter(least=(1, 1))) == [one]
    assert database.recalls.evidence(RecallFilter(env="twx/coin")) == []
    assert database.recalls.episode_count() == 5


def test_evidence_can_be_bounded_in_time_and_by_what_is_meant(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    lots(database, ("ep-1", "rf-1", False, True), at="2025-01-01")
    lots(database, ("ep-2", "rf-1", True, False), at="2025-01-02")
    assert database.recalls.evidence(RecallFilter(before="2025-01-02")) == [
        RecallEvidence("rf-1", "toy", 0.9, 1, 1, 0, 0)
    ]
    assert database.recalls.evidence(RecallFilter(after="2025-01-01")) == [
        RecallEvidence("rf-1", "toy", 0.9, 0, 0, 1, 0)
    ]
    assert database.recalls.episode_count(before="2025-01-02") == 1
    database.reflections.put(reflection("rf-1", pinned=True))
    assert database.recalls.evidence(RecallFilter(among=Filter(pinned=False, status=None))) == []
    assert database.reflections.pinned(["rf-1", "rf-2"]) == {"rf-1"}
    assert len(database.recalls.evidence(RecallFilter(among=Filter(pinned=True, status=None)))) == 1


def test_environments_and_odds_are_strata(database: Database) -> None:
    for number, (env, propensity) in enumerate([("a", 0.9), ("b", 0.9), ("b", 0.5)]):
        database.recalls.put([recall(f"ep-{number}", env=env, propensity=propensity, won=True)])
    assert [row[1:4] for row in database.recalls.evidence()] == [("a", 0.9, 1), ("b", 0.5, 1), ("b", 0.9, 1)]


def test_what_was_drawn_for_an_episode_is_known(database: Database) -> None:
    lots(database, ("ep-1", "rf-1", True, None))
    database.recalls.put([recall("ep-1", "rf-2"), recall("ep-2", "rf-2")])
    assert database.recalls.draws("ep-1") == {"rf-1": (True, 0.9), "rf-2": (False, 1.0)}


def test_base_rates_leave_out_errors_and_what_was_minimised(
    database: Database, episode: Callable[..., Episode]
) -> None:
    for number, values in enumerate(
        [{"status": "won"}, {"status": "lost"}, {"status": "truncated"}, {"status": "errored"},
         {"status": "won", "minimised_from": "ep-0"}, {"status": "won", "started_at": "2999"}]
    ):  # fmt: skip
        database.episodes.put(episode(f"ep-{number}", **values))
    assert database.episodes.success_rates(["twx/coin", "toy"], before="2998") == {"twx/coin": 2 / 5, "toy": 1 / 2}
    assert database.episodes.success_rates(["twx/coin"]) == {"twx/coin": 3 / 6}


def test_an_older_file_gets_its_totals(older: Any, path: Path, reflection: Any) -> None:
    with older(3, reflection("rf-3")) as old:
        for episode, channel, won in (("ep-1", "text", 1), ("ep-1", "advice", 1), ("ep-2", "text", None)):
            old.connection.execute(
                "INSERT INTO recalls (episode, reflection, face, rank, query, score, parts, at, won) "
                "VALUES (?, 'rf-3', ?, 0, 'q', 1.0, '{}', '2025-01-01', ?)",
                (episode, channel, won),
            )
    with Database(path) as new:
        assert new.recalls.counts(["rf-3"]) == {"rf-3": RecallCount(2, 1, 1)}
        new.recalls.set_outcome("ep-2", True)
        assert new.recalls.counts(["rf-3"]) == {"rf-3": RecallCount(2, 2, 2)}
