"""Near-duplicates become one item; what differs, what is pinned, and what was taken apart stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from memory import Advice, Database, Evidence, Reflection, ReflectionMemory
from memory.consolidation import duplicates
from memory.consolidation.job import Job
from memory.store.history import History

Maker = Callable[..., Reflection]
TEXT = "Open the door in the north of the kitchen to find the coin behind it."


def merge(job: Job) -> list[tuple[str, ...]]:
    """Plan, apply, and say what was merged."""
    actions = duplicates.plan(job).actions
    assert all(action.apply(job) for action in actions)
    return [action.items for action in actions]


def test_the_survivor_keeps_all_that_was_known(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    def facts(visits: int) -> list[Advice]:
        return [Advice(state="kitchen", action="open door", visits=visits, value=visits / 10)]

    memory.remember(
        [
            reflection("old", TEXT, importance=0.4, tags=["a"], advice=facts(1), derived_from=["x"],
                       evidence=[Evidence(episode="ep-1", steps=[2])]),
            reflection("best", TEXT.upper(), importance=0.6, tags=["b"], advice=facts(2), derived_from=["y"],
                       evidence=[Evidence(episode="ep-1", steps=[1]), Evidence(episode="ep-2", steps=[0])]),
            reflection("other", "Never mind the coin, sort the books by size."),
        ]
    )  # fmt: skip
    assert merge(job()) == [("best", "old")]
    best, old = database.reflections.get("best"), database.reflections.get("old")
    assert best.evidence == [Evidence(episode="ep-1", steps=[1, 2]), Evidence(episode="ep-2", steps=[0])]
    assert best.advice == [Advice(state="kitchen", action="open door", visits=3, value=0.2)]
    assert (best.tags, best.derived_from, best.importance, best.status) == (["b", "a"], ["y", "x"], 0.6, "active")
    assert (old.status, old.merged_into, old.text) == ("merged", "best", TEXT)
    (link,) = database.links.of("best", kind="merged")
    assert (link.source, link.target, link.weight) == ("old", "best", pytest.approx(1))
    done = database.operations.recent()[0]
    assert (done.name, done.changed, done.links) == ("merge", 3, 1), "two items, and the link between them"
    assert merge(job()) == []


@pytest.mark.parametrize(
    "difference",
    [
        {"kind": "written"},
        {"env": "twx/twc", "task": "twx/twc:train:3"},
        {"source": "someone else"},
        {"namespace": "bob"},
        {"oracle": False},
        {"tier": "summary"},
        {"status": "benched"},
        {"task": "twx/coin:test:3"},
        {"topic": "where: coin"},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_what_differs_in_more_than_words_is_not_merged(
    database: Database, reflection: Maker, job: Callable[..., Job], difference: dict[str, object]
) -> None:
    database.reflections.put(reflection("a", TEXT))
    database.reflections.put(reflection("b", TEXT, **difference))
    assert merge(job()) == []


def test_held_out_games_are_not_brought_together(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    keep(memory.database, [reflection(id, TEXT, task="twx/coin:test:3") for id in ("a", "b")])
    assert merge(job()) == []
    assert merge(job(folds=["test"])) == [("a", "b")]


def test_texts_that_part_where_no_embedder_reads_are_not_merged(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    start = "go north " * 200
    keep(
        memory.database,
        [reflection("a", f"{start}left"), reflection("b", f"{start}right"), reflection("c", f"{start}left")],
    )
    assert merge(job()) == [("a", "c")]


def test_a_pinned_item_takes_over_but_is_not_taken_over(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    keep(memory.database, [reflection(id, TEXT, importance=0.9) for id in ("a", "b")])
    keep(memory.database, [reflection(id, TEXT, importance=0.1, pinned=True) for id in ("p", "q")])
    assert merge(job()) == [("p", "a", "b")]
    assert database.reflections.get("q").status == "active"


def test_an_item_pinned_or_edited_since_the_plan_is_left_alone(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    keep(memory.database, [reflection(id, TEXT) for id in ("a", "b")])
    here = job()
    (action,) = duplicates.plan(here).actions
    memory.pin("b")
    assert not action.apply(here)
    memory.unpin("b")
    memory.edit("b", "Something else.")
    assert not action.apply(here)
    assert database.links.of("a") == [] and database.reflections.get("b").status == "active"


def test_small_differences_do_not_chain(memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job]) -> None:
    words = [f"w{number}" for number in range(20)]
    texts = [" ".join([f"x{number}" for number in range(swapped)] + words[swapped:]) for swapped in (0, 2, 4)]
    memory.remember([reflection(f"r-{place}", text) for place, text in enumerate(texts)])
    here = job()
    vectors = memory.embedder.embed(texts)
    step, far = sorted([float(vectors[0] @ vectors[1]), float(vectors[1] @ vectors[2])])[0], vectors[0] @ vectors[2]
    assert step > far
    assert merge(job(duplicate=step)) == [("r-0", "r-1")]
    assert here.database.reflections.get("r-2").status == "active"


def test_what_a_person_took_apart_is_not_joined_again(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    keep(memory.database, [reflection(id, TEXT) for id in ("a", "b")])
    assert merge(job()) == [("a", "b")]
    memory.restore("b")
    memory.pin("a")
    memory.unpin("a")
    assert merge(job()) == []


def test_only_what_changed_is_looked_up_again(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch, keep: Any,
) -> None:  # fmt: skip
    keep(memory.database, [reflection(f"r-{word}", f"all about {word}") for word in ("cats", "dogs", "birds")])
    here = job()
    (mark,) = duplicates.plan(here).marks.items()
    database.settings.put(*mark)
    keep(memory.database, [reflection("r-again", "all about dogs")])
    here = job()
    asked: list[int] = []
    near = Job.near
    monkeypatch.setattr(Job, "near", lambda self, number, *rest: asked.append(number) or near(self, number, *rest))
    assert [action.items for action in duplicates.plan(here).actions] == [("r-dogs", "r-again")]
    assert asked == [4]


def test_more_equal_texts_than_one_search_returns_are_all_merged(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job], keep: Any
) -> None:
    keep(memory.database, [reflection(f"r-{number:02}", TEXT) for number in range(70)])
    ((first, *others),) = merge(job())
    assert first == "r-00" and len(others) == 69


def test_a_count_of_repeats_is_that_of_what_a_merge_takes_out_of_use(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    chance = random.Random(1)
    advice = [Advice(state="s", action="a", value=0.5)]
    keep(memory.database,
        [
            reflection(
                f"r{number}", " ".join(chance.choices(("red", "door", "key"), k=3)), pinned=chance.random() < 0.1,
                importance=chance.random(), advice=advice if chance.random() < 0.2 else [],
                task=f"twx/coin:train:{chance.randrange(3)}", kind=chance.choice(("grounded", "written")),
            )
            for number in range(60)
        ]
    )  # fmt: skip
    here = job(duplicate=0.9)
    assert duplicates.plan(here).actions[0].apply(here)
    History(memory.database).undo(memory.database.operations.recent()[0].id)
    for least in (0.99, 0.9, 0.7):
        here = job(duplicate=least)
        planned = sum(len(action.items) - 1 for action in duplicates.plan(here).actions)
        found = duplicates.repeats(here, duplicates.mergeable(here), 10**6)
        assert planned > 5
        assert found == (planned, 60, 60)


def test_what_is_vouched_for_takes_over_nothing_that_is_on_probation(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job]
) -> None:
    memory.remember([reflection("old", TEXT, source="import:x", vouched=True)])
    memory.remember([reflection("new", TEXT.upper(), source="import:x", advice=[Advice(state="s", action="look")])])
    assert merge(job()) == []
    memory.remember([reflection("newer", TEXT.lower(), source="import:x")])
    assert merge(job()) == [("new", "newer")]
