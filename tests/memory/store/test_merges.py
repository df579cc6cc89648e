"""What was merged into a reflection counts for it, as long as it is merged, and an episode counts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory import Credit, CreditConfig, Database, Recall, Reflection, ReflectionMemory
from memory.consolidation.consolidation import Consolidation
from memory.consolidation.report import health
from memory.credit.assignment import Assignment
from memory.store import RecallFilter
from memory.store.filters import Filter
from memory.store.history import History
from memory.store.merges import FamilyAssignment, family, first_assignments
from memory.store.recalls import RecallCount, RecallEvidence

Maker = Callable[..., Reflection]


def at(day: int) -> str:
    return f"2020-01-{day:02}T00:00:00.000000+00:00"


def recalled(reflection: str, episode: str, won: bool | None, day: int = 1, **values: Any) -> Recall:
    given = {"env": "toy", "at": at(day), **values}
    return Recall(episode=episode, reflection=reflection, rank=0, query="q", score=1.0, won=won, **given)


def drawn(reflection: str, episode: str, served: bool, won: bool | None = True, day: int = 1, **values: Any) -> Recall:
    return recalled(reflection, episode, won, day, held_out=not served, **{"propensity": 0.9, **values})


@pytest.fixture
def merge(database: Database, reflection: Maker) -> Iterator[Callable[[str, str | None], None]]:
    """Puts a reflection into another one, or (None) apart again."""

    def merged(id: str, into: str | None) -> None:
        database.reflections.put(reflection(id, status="merged" if into else "active", merged_into=into))

    for id in "abcd":
        database.reflections.put(reflection(id))
    yield merged


Merge = Callable[[str, str | None], None]


def test_recalls_of_merged_ones_count_over_several_merges(database: Database, merge: Merge) -> None:
    merge("b", "a")
    merge("c", "b")
    database.recalls.put(
        [
            recalled("a", "ep-1", True, 1),
            recalled("b", "ep-1", True, 1),  # The same episode: it counts once.
            recalled("b", "ep-2", False, 3),
            recalled("c", "ep-3", None, 5),
            recalled("c", "ep-4", True, 9, held_out=True),
        ]
    )
    assert family(database.connection, ["a", "b", "d"]) == {"a": ["a", "b", "c"], "b": ["b", "c"], "d": ["d"]}
    counts = {"a": RecallCount(3, 1, 2), "b": RecallCount(3, 1, 2), "d": RecallCount(0, 0, 0)}
    assert database.recalls.counts(["a", "b", "d"]) == counts
    assert database.recalls.last(["a", "d"]) == {"a": at(5)}
    merge("b", None)  # Taken apart again.
    assert family(database.connection, ["a"]) == {"a": ["a"]}
    assert database.recalls.counts(["a", "b"]) == {"a": RecallCount(1, 1, 1), "b": RecallCount(3, 1, 2)}
    assert database.recalls.last(["a"]) == {"a": at(1)}


def test_one_that_is_no_longer_merged_counts_for_itself(database: Database, reflection: Maker) -> None:
    database.reflections.put(reflection("a"))
    database.reflections.put(reflection("b", status="forgotten", merged_into="a"))
    assert family(database.connection, ["a"]) == {"a": ["a"]}


def test_merges_in_a_circle_come_to_an_end(database: Database, merge: Merge) -> None:
    merge("a", "b")
    merge("b", "a")
    assert family(database.connection, ["a"]) == {"a": ["a", "b"]}
    assert database.recalls.evidence() == []


# What lots say


def test_lots_drawn_together_are_one_and_of_several_moments_the_first_counts() -> None:
    rows = [
        ("a", "ep-1", at(1), "toy", 0.9, 1, 1),
        ("a", "ep-1", at(1), "toy", 0.8, 0, 1),  # Drawn together: served after all, with odds of 1 − .1 · .2.
        ("a", "ep-1", at(2), "toy", 0.5, 1, 1),  # Drawn later.
        ("a", "ep-2", at(1), "toy", 0.9, 1, 0),
        ("a", "ep-2", at(1), "toy", 0.8, 1, 0),
        ("b", "ep-2", at(1), "toy", 0.8, 0, None),
    ]
    assert list(first_assignments(rows)) == [
        FamilyAssignment("a", "toy", 0.98, False, True, at(1)),
        FamilyAssignment("a", "toy", 0.98, True, False, at(1)),
        FamilyAssignment("b", "toy", 0.8, False, None, at(1)),
    ]


def test_evidence_is_that_of_the_family_each_episode_once(database: Database, merge: Merge) -> None:
    database.recalls.put(
        [
            drawn("a", "ep-1", True), drawn("b", "ep-2", False, False), drawn("d", "ep-1", True),
            drawn("a", "ep-3", False), drawn("b", "ep-3", True),  # One lot of two.
            drawn("a", "ep-4", False), drawn("b", "ep-4", True, propensity=1.0),  # Served for certain.
            drawn("a", "ep-5", False, False), drawn("b", "ep-5", True, False, day=2),  # The second made up for it.
            drawn("b", "ep-6", True, None), drawn("b", "ep-7", True, env="other"),
        ]
    )  # fmt: skip
    before = database.recalls.evidence()
    merge("b", "a")
    a = [
        RecallEvidence("a", "other", 0.9, 1, 1, 0, 0),
        RecallEvidence("a", "toy", 0.9, 1, 1, 2, 0),
        RecallEvidence("a", "toy", 0.99, 1, 1, 0, 0),
    ]
    d = RecallEvidence("d", "toy", 0.9, 1, 1, 0, 0)
    assert database.recalls.evidence(RecallFilter(ids=["a"])) == a
    assert database.recalls.evidence() == [d, *a]
    assert database.recalls.evidence(RecallFilter(ids=["a", "d"], env="toy")) == [d, *a[1:]]
    assert (
        database.recalls.evidence(RecallFilter(ids=["a"], least=(3, 2))) == a
        and database.recalls.evidence(RecallFilter(ids=["a"], least=(4, 0))) == []
    )
    assert database.recalls.evidence(RecallFilter(among=Filter(status="active"))) == [d, *a]
    assert database.recalls.evidence(RecallFilter(among=Filter(status="merged"))) == []
    assert [row.reflection for row in database.recalls.evidence(RecallFilter(ids=["b"]))] == [
        "b",
        "b",
    ]  # Asked for by its id.
    merge("b", None)
    assert database.recalls.evidence() == before


def test_the_time_of_a_familys_evidence_is_that_of_its_first_lot(database: Database, merge: Merge) -> None:
    merge("b", "a")
    database.recalls.put([drawn("a", "ep-1", False), drawn("b", "ep-1", True, day=5), drawn("b", "ep-2", True, day=5)])
    assert database.recalls.evidence(RecallFilter(ids=["a"], before=at(5))) == [
        RecallEvidence("a", "toy", 0.9, 0, 0, 1, 1)
    ]
    assert database.recalls.evidence(RecallFilter(ids=["a"], after=at(1))) == [
        RecallEvidence("a", "toy", 0.9, 1, 1, 0, 0)
    ]


def test_lots_on_two_that_say_the_same_find_no_effect_where_there_is_none(database: Database, merge: Merge) -> None:
    """The second is asked only where the first was held out and the game is easy: counting it would make an effect."""
    recalls = []
    for number in range(400):
        easy, served = number % 2 == 0, number % 10 > 1
        recalls.append(drawn("a", f"ep-{number}", served, easy, propensity=0.8))
        if not served and easy:
            recalls.append(drawn("b", f"ep-{number}", number % 20 < 10, easy, day=2, propensity=0.8))
    database.recalls.put(recalls)
    merge("b", "a")
    uplift = Credit(database).uplift("a")
    assert (uplift.served, uplift.served_won, uplift.held_out, uplift.held_out_won) == (320, 160, 80, 40)
    assert uplift.mean == pytest.approx(0, abs=1e-9)


# Who counts so


@pytest.fixture
def merged(memory: ReflectionMemory, reflection: Maker) -> ReflectionMemory:
    """Two that say the same, made one by consolidation; `b` was harmful, as 12 episodes on each side show."""
    for id, place in (("a", 1), ("b", 0)):
        memory.database.reflections.put(reflection(id, "The red door is locked.", importance=place))
    memory.database.recalls.put(
        [
            *(drawn("b", f"ep-{n}", True, False, propensity=0.5) for n in range(12)),
            *(drawn("b", f"ep-w{n}", False, True, propensity=0.5) for n in range(12)),
        ]
    )
    Consolidation(memory).run(["merge"])
    assert memory.database.reflections.get("b").merged_into == "a"
    return memory


def test_credit_of_a_survivor_is_that_of_its_family_until_the_merge_is_undone(merged: ReflectionMemory) -> None:
    credit = merged.credit
    assert str(credit.uplift("a")) == str(credit.uplift("b"))
    assert credit.worth(["a"], "toy")["a"] == credit.worth(["b"], "toy")["b"] == pytest.approx(-6 / 16)
    assert credit.use(["a"], "toy", 1)["a"] < -0.1
    assert (credit.report().measured, [id for id, _ in credit.report().harmful]) == (1, ["a"])
    assert credit.cost().held_out == 12
    assert health(merged).harmful == ["a"]
    History(merged.database).undo(merged.database.operations.recent()[0].id)
    assert credit.uplift("a").served == 0
    assert [id for id, _ in credit.report().harmful] == ["b"]


def test_a_survivor_is_benched_for_what_was_merged_into_it(merged: ReflectionMemory) -> None:
    assert [verdict.reflection for verdict in merged.credit.review()] == ["a"]
    merged.restore("a")
    assert merged.credit.review() == []


def test_a_persons_word_on_what_was_merged_stands(memory: ReflectionMemory, reflection: Maker) -> None:
    for id in ("a", "b"):
        memory.database.reflections.put(reflection(id))
    memory.database.recalls.put(
        [drawn("b", f"ep-{n}-{side}", side, not side, propensity=0.5) for n in range(12) for side in (True, False)]
    )
    assert [verdict.reflection for verdict in memory.credit.review()] == ["b"]
    memory.restore("b")
    Consolidation(memory).run(["merge"])
    survivor = "a" if memory.database.reflections.get("b").merged_into else "b"
    assert memory.credit.uplift(survivor).below > 0.95 and memory.credit.review() == []


def test_what_was_decided_for_an_episode_stands_after_a_merge(database: Database, merge: Merge) -> None:
    database.recalls.put([drawn("b", "ep-1", False, None), drawn("c", "ep-2", False, None)])
    merge("b", "a")
    credit = Credit(database, CreditConfig(hold_out=0.5))
    assert credit.split("ep-1", ["a"], env="toy") == [Assignment("a", True, 0.9)]
    assert credit.split("ep-2", ["d"], env="toy")[0].propensity == 0.5


def test_a_hit_a_screen_and_the_health_count_the_family(merged: ReflectionMemory) -> None:
    (hit,) = merged.search("red door")
    assert (hit.reflection.id, hit.recalled, hit.ended, hit.won) == ("a", 12, 12, 0)
    assert {recall.reflection for recall in merged.show("a").recalls} == {"b"}
    assert len(merged.show("a").recalls) == 24
    assert health(merged).never_recalled == 0


def test_an_older_file_learns_what_was_merged(path: Path, older: Any, reflection: Maker) -> None:
    with older(5, reflection("a"), reflection("b", status="merged", merged_into="a")):
        pass
    with Database(path) as new:
        assert family(new.connection, ["a"]) == {"a": ["a", "b"]}


def test_who_took_over_nothing_costs_one_look_into_an_index_of_the_merged(database: Database) -> None:
    from memory.store.merges import families

    plan = database.connection.execute(f"EXPLAIN QUERY PLAN {families(['a', 'b'])} SELECT * FROM family", ["a", "b"])
    searched = [row[3] for row in plan if "reflections" in row[3]]
    assert len(searched) == 2 and all("COVERING INDEX reflections_merged (merged_into=?)" in line for line in searched)
