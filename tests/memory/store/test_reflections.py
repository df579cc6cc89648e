"""Reflections keep every version, and are found by what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory import Advice, Database, Reflection, errors
from memory.store import ACTIVE, Filter

Maker = Callable[..., Reflection]


def test_a_reflection_comes_back_as_it_was(
    database: Database, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    written = reflection(advice=[advice(), advice(value=0)], tags=["coin"], importance=0.75)
    assert database.reflections.put(written)
    assert database.reflections.get("rf-1") == written


def test_every_change_is_a_version_and_no_change_is_none(database: Database, reflection: Maker) -> None:
    first = reflection()
    database.reflections.put(first)
    assert not database.reflections.put(first)
    assert not database.reflections.put(first.model_copy(update={"updated_at": "2031-01-01"}))
    assert database.reflections.put(first.model_copy(update={"text": "In the hall."}), change="edited")
    assert database.reflections.put(first.model_copy(update={"text": "In the yard."}))
    versions = database.versions.of("rf-1")
    assert [(item.version, item.change, item.reflection.text) for item in versions] == [
        (1, "written", first.text),
        (2, "edited", "In the hall."),
        (3, "changed", "In the yard."),
    ]
    assert database.reflections.get("rf-1").text == "In the yard."


def test_an_unknown_reflection_is_answered_with_the_nearest(database: Database, reflection: Maker) -> None:
    with pytest.raises(errors.UnknownReflection, match="memory is empty"):
        database.reflections.get("rf-123")
    for id in ("rf-123", "rf-124"):
        database.reflections.put(reflection(id))
    assert database.reflections.get("rf-124").id == "rf-124"
    with pytest.raises(errors.UnknownReflection, match="fits more than one reflection"):
        database.reflections.get("rf-12")
    with pytest.raises(errors.UnknownReflection, match="did you mean 'rf-123'"):
        database.reflections.get("fr-123")
    with pytest.raises(errors.UnknownReflection, match="`agentlab memory list` shows"):
        database.reflections.full_id("something else")


def test_reflections_are_listed_by_what_they_are(database: Database, reflection: Maker) -> None:
    database.reflections.put(reflection("a", tags=["door", "key"], pinned=True))
    database.reflections.put(reflection("b", env="twx/twc", kind="written", run="run-2"))
    database.reflections.put(reflection("c", task="twx/coin:train:4", status="forgotten", tags=["keys"]))

    def ids(**wanted: object) -> list[str]:
        fitting = Filter(**{"status": None, **wanted})  # type: ignore[arg-type]
        return [found.id for found in database.reflections.find(fitting)]

    assert ids() == ["a", "b", "c"]
    assert [found.id for found in database.reflections.find(newest=True, limit=1)] == ["c"]
    assert ids(status="forgotten") == ids(task="twx/coin:train:4") == ["c"]
    assert ids(env="twx/twc") == ids(kinds=["written"]) == ids(run="run-2") == ["b"]
    assert ids(tag="key") == ids(pinned=True) == ["a"]
    assert ids(tag="ke%") == []
    assert (database.reflections.count(), database.reflections.count(ACTIVE)) == (3, 2)


def test_a_filter_leaves_out_what_was_learned_too_late_or_on_the_same_ground(
    database: Database, reflection: Maker
) -> None:
    database.reflections.put(reflection("old", created_at="2025-01-01T00:00:00+00:00"))
    database.reflections.put(reflection("late", created_at="2025-03-01T00:00:00+00:00", run="run-2"))
    database.reflections.put(
        reflection("other", task="twx/coin:train:9", text="", created_at="2025-01-02T00:00:00+00:00")
    )

    def ids(**wanted: object) -> set[str]:
        numbers = database.reflections.numbers(Filter(**wanted))  # type: ignore[arg-type]
        return {found.id for found in database.reflections.load(numbers).values()}

    assert ids(before="2025-03-01T00:00:00+00:00") == {"old", "other"}
    assert ids(exclude_run="run-1") == {"late"}
    assert ids(exclude_task="twx/coin:train:3") == {"other"}
    assert ids(kinds=["grounded"], text_only=True) == {"old", "late"}
    assert ids(kinds=[]) == ids(split="dev") == set()
    assert ids(split="train") == {"old", "late", "other"}


def test_a_task_is_in_the_one_fold_that_its_id_names_whatever_is_in_the_name_of_its_environment(
    database: Database, reflection: Maker
) -> None:
    tasks = {"odd": "x:train:y:test:3", "module": "gym/a:b-v0:dev:7", "rule": "x:train:y:test:*", "all": "e:train:"}
    for id, task in {**tasks, "none": ":train:", "free": "train:3"}.items():
        database.reflections.put(reflection(id, env="e", task=task))

    def fold(split: str) -> list[str]:
        return [found.id for found in database.reflections.find(Filter(split=split, status=None))]

    assert {split: fold(split) for split in ("train", "dev", "test")} == {
        "train": ["all", "none"],
        "dev": ["module"],
        "test": ["odd", "rule"],
    }
    assert fold("y") == []


def test_advice_that_gained_something_is_filed_by_its_state(
    database: Database, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    here, there = advice("Here.", "take coin"), advice("There.", "go east")
    database.reflections.put(reflection("a", advice=[here, there, advice("Nowhere.", "wait", value=0)]))
    database.reflections.put(reflection("b", advice=[advice("Here.", "open box")]))
    states = dict(database.connection.execute("SELECT text, number FROM states"))
    wanted = Filter(env="twx/coin", status="active")
    assert set(states) == {"Here.", "There."}
    found = database.reflections.state_advice(list(states.values()), wanted)
    assert [(id, item.action) for _, id, item in found] == [("a", "take coin"), ("a", "go east"), ("b", "open box")]
    database.reflections.put(reflection("a", advice=[there], status="forgotten"))
    assert [id for _, id, _ in database.reflections.state_advice(list(states.values()), wanted)] == ["b"]
    assert database.reflections.state_advice(list(states.values()), Filter(env="twx/twc", status=None)) == []


def test_what_names_no_environment_and_no_task_fits_where_that_is_wanted(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    places = {"here": ("e", "e:train:1"), "held": ("e", "e:test:1"), "bare": ("", ""), "filed": ("e", "")}
    places |= {"other": ("f", "f:train:1"), "else": ("f", ""), "leak": ("", "e:test:1")}
    for id, (env, task) in places.items():
        database.reflections.put(reflection(id, env=env, task=task))

    def found(**wanted: Any) -> set[str]:
        numbers = database.reflections.numbers(Filter(**wanted))
        return {item.id for item in database.reflections.load(numbers).values()}

    assert found(env="e", split="train") == {"here"}
    assert found(env="e", split="train", anywhere=True) == {"here", "bare", "filed"}
    assert found(env="e", anywhere=True) == {"here", "held", "bare", "filed", "leak"}
    assert found(anywhere=True) == set(places)
