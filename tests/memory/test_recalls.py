"""Recalls count the episodes that a reflection served, and how those ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory import Database, Recall, Reflection, errors
from memory.recalls import RecallCount


def recall(episode: str, reflection: str = "rf-1", **values: object) -> Recall:
    return Recall(episode=episode, reflection=reflection, **{"rank": 0, "query": "coin", "score": 1.5, **values})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def known(database: Database, reflection: Callable[..., Reflection]) -> None:
    database.put_reflection(reflection("rf-1"))
    database.put_reflection(reflection("rf-2"))


def test_a_recall_comes_back_as_it_was(database: Database) -> None:
    served = recall("ep-1", parts={"relevance": 0.25}, face="exemplar")
    database.put_recalls([served])
    assert database.recalls_of("rf-1") == [served]
    assert database.recalls_for("ep-1") == [served]


def test_recalls_are_counted_by_episode_with_their_outcomes(database: Database) -> None:
    database.put_recalls([recall("ep-1"), recall("ep-1", face="advice"), recall("ep-2"), recall("ep-3")])
    database.set_recall_outcome("ep-1", True)
    database.set_recall_outcome("ep-2", False)
    assert database.recall_counts(["rf-1", "rf-2"]) == {"rf-1": RecallCount(3, 1, 2), "rf-2": RecallCount(0, 0, 0)}
    assert [item.won for item in database.recalls_of("rf-1")] == [True, True, False, None]


def test_a_recall_repeated_after_a_kill_counts_once_and_keeps_its_outcome(database: Database) -> None:
    database.put_recalls([recall("ep-1")])
    database.set_recall_outcome("ep-1", True)
    database.put_recalls([recall("ep-1", score=0.1)])
    (kept,) = database.recalls_of("rf-1")
    assert (kept.score, kept.won) == (1.5, True)


def test_the_last_recall_is_known(database: Database) -> None:
    database.put_recalls([recall("ep-1", at="2025-01-01"), recall("ep-2", at="2025-02-01")])
    assert database.last_recalled(["rf-1", "rf-2"]) == {"rf-1": "2025-02-01"}


def test_a_recall_of_nothing_is_refused(database: Database) -> None:
    with pytest.raises(errors.MemoryStoreError, match="keep what it refers to first"):
        database.put_recalls([recall("ep-1", "rf-3")])
