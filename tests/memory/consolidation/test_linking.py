"""Links to the nearest earlier notes, stronger where both served."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory import Database, Recall, Reflection, ReflectionMemory
from memory.consolidation import linking
from memory.consolidation.job import Job
from memory.consolidation.linking import weight

Maker = Callable[..., Reflection]


def link(job: Job) -> list[tuple[str, ...]]:
    plan = linking.plan(job)
    assert all(action.apply(job) for action in plan.actions)
    for mark in plan.marks.items():
        job.database.settings.put(*mark)
    return [action.items for action in plan.actions]


def test_the_weight_grows_with_each_common_use_and_stays_below_one() -> None:
    assert weight(0.6, 0) == pytest.approx(0.6)
    assert weight(0.6, 1) == pytest.approx(1 - 0.4 * 0.9)
    assert weight(0.6, 3) == pytest.approx(1 - 0.4 * 0.729)
    assert weight(1.0000001, 0) == 1


def test_each_note_is_linked_to_its_nearest_earlier_ones(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    texts = {"a": "red door key", "b": "red door lock", "c": "red door handle", "d": "blue sky over hills"}
    memory.remember([reflection(id, text) for id, text in texts.items()])
    database.reflections.put(reflection("x", "red door key", namespace="bob"))
    memory.remember([reflection("t", "red door", task="e:test:1")])
    link(job(neighbours=1, similar=0.3))
    found = database.connection.execute("SELECT source, target FROM links ORDER BY source")
    assert found == [("b", "a"), ("c", "a")] or found == [("b", "a"), ("c", "b")]
    vectors = memory.embedder.embed([texts["a"], texts["b"]])
    (first,) = database.links.of("a", kind="similar")[-1:] if found[1][1] == "b" else database.links.of("b")
    assert first.weight == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert link(job(neighbours=1, similar=0.3)) == []


def test_of_equally_near_notes_the_first_are_linked_whatever_the_index_gives_first(
    memory: ReflectionMemory, reflection: Maker, job: Callable[..., Job]
) -> None:
    for id, text in zip("dcbafe", ("one", "two", "three", "four", "five", "six"), strict=True):
        memory.remember([reflection(id, f"red door {text}")])
        memory.follow()
    # Words that all of them lack: each is as near to the last one as the others.
    memory.remember([reflection("z", "red door seven")])
    linked = linking.plan(job(neighbours=2, similar=0.1)).actions[-1].items
    vectors = memory.embedder.embed([f"red door {text}" for text in ("one", "two", "three", "four", "five", "six")])
    (last,) = memory.embedder.embed(["red door seven"])
    ties = {round(float(last @ vector), 6) for vector in vectors}
    assert len(ties) == 1 and linked == ("z", "d", "c")


def test_notes_that_serve_together_are_linked_more_strongly_once(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    memory.remember([reflection("a", "red door key"), reflection("b", "red door lock")])
    link(job(similar=0.1))
    cosine = database.links.of("a")[0].weight
    for episode, held_out in (("ep-1", False), ("ep-2", False), ("ep-3", True)):
        database.recalls.put(
            [
                Recall(episode=episode, reflection=id, rank=0, query="q", score=1.0, channel=channel, held_out=held_out)
                for id, channel in (("a", "text"), ("a", "advice"), ("b", "text"))  # type: ignore[misc]
            ]
        )
    assert link(job(similar=0.1)) == [("b", "a")]
    assert database.links.of("a")[0].weight == pytest.approx(1 - (1 - cosine) * 0.81, abs=1e-6)
    assert link(job(similar=0.1)) == []
    memory.edit("b", "red door key, the spare")
    assert link(job(similar=0.1)) == [("b", "a")]
    expected = memory.embedder.embed(["red door key", "red door key, the spare"])
    cosine = float(expected[0] @ expected[1])
    assert database.links.of("a")[0].weight == pytest.approx(1 - (1 - cosine) * 0.81, abs=1e-6)


def test_what_was_forgotten_since_the_plan_is_not_linked(
    memory: ReflectionMemory, database: Database, reflection: Maker, job: Callable[..., Job]
) -> None:
    memory.remember([reflection("a", "red door key"), reflection("b", "red door lock")])
    here = job(similar=0.1)
    (action,) = linking.plan(here).actions
    memory.forget("a")
    assert action.apply(here) and database.links.of("b") == []
    memory.forget("b")
    assert not action.apply(here)
    assert linking.plan(job(similar=0.1), frozenset({"a"})).actions == []
