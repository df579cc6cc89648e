"""What belongs to one namespace is for another as if it were not there."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from memory import Advice, Reflection, ReflectionMemory, errors
from memory.store import EVERYTHING, Filter

Maker = Callable[..., Reflection]
Opener = Callable[..., ReflectionMemory]


def ids(hits: list[object]) -> list[str]:
    return [hit.reflection.id for hit in hits]  # type: ignore[attr-defined]


@pytest.fixture
def ann(open_memory: Opener, reflection: Maker, advice: Callable[..., Advice]) -> ReflectionMemory:
    memory = open_memory(namespace="ann")
    memory.remember([reflection("rf-secret", "The silver key is Ann's.", advice=[advice("Ann's room.", "take key")])])
    return memory


@pytest.fixture
def bob(ann: ReflectionMemory, open_memory: Opener) -> ReflectionMemory:
    return open_memory(namespace="bob")


def test_what_is_remembered_belongs_to_the_namespace_whatever_it_says(ann: ReflectionMemory, reflection: Maker) -> None:
    ann.remember([reflection("rf-2", namespace="bob")])
    assert ann.show("rf-2").reflection.namespace == "ann"


def test_nothing_of_another_is_found(ann: ReflectionMemory, bob: ReflectionMemory) -> None:
    assert bob.search("silver key", wanted=EVERYTHING) == []
    assert bob.recall("silver key", episode="ep-1") == []
    assert bob.similar_states("Ann's room.", wanted=Filter(env="twx/coin")) == []
    assert bob.advice_for_task("twx/coin:train:3") == []
    assert bob.count(EVERYTHING) == 0
    assert bob.export(io.StringIO()) == 0
    assert ids(ann.search("silver key")) == ["rf-secret"]
    assert ann.similar_states("Ann's room.", wanted=Filter(env="twx/coin"))[0][2] == "rf-secret"
    assert len(ann.advice_for_task("twx/coin:train:3")) == ann.count() == ann.export(io.StringIO()) == 1


def test_a_memory_of_another_namespace_shares_the_index_and_nothing_that_is_remembered(
    ann: ReflectionMemory, reflection: Maker
) -> None:
    eve = ann.of("eve")
    assert eve.search("silver key", wanted=EVERYTHING) == [] and eve.count(EVERYTHING) == 0
    eve.remember([reflection("rf-eve", "The golden key is Eve's.")])
    assert ids(eve.search("key", wanted=EVERYTHING)) == ids(eve.recall("key", episode="e", record=False)) == ["rf-eve"]
    assert ids(ann.search("key", wanted=EVERYTHING)) == ["rf-secret"]
    assert eve.index is ann.index and (eve.credit.namespace, ann.credit.namespace) == ("eve", "ann")


@pytest.mark.parametrize("verb", ["show", "pin", "unpin", "forget", "restore"])
@pytest.mark.parametrize("empty", [True, False])
def test_the_id_of_another_is_answered_as_one_that_nothing_has(
    bob: ReflectionMemory, reflection: Maker, verb: str, empty: bool
) -> None:
    if not empty:
        bob.remember([reflection("own")])
    said = []
    for id in ("rf-secret", "rf-secres"):
        with pytest.raises(errors.UnknownReflection) as raised:
            getattr(bob, verb)(id)
        said.append(str(raised.value).replace(id, "ID"))
    assert said[0] == said[1]
    with pytest.raises(errors.UnknownReflection):
        bob.edit("rf-secret", "Mine now.")
    assert bob.database.reflections.get("rf-secret").status == "active"
    assert len(bob.database.versions.of("rf-secret")) == 1


def test_a_beginning_that_fits_one_of_each_is_not_ambiguous(
    ann: ReflectionMemory, bob: ReflectionMemory, reflection: Maker
) -> None:
    bob.remember([reflection("rf-secure")])
    assert bob.pin("rf-sec").id == "rf-secure"
    assert ann.pin("rf-sec").id == "rf-secret"


def test_an_id_that_another_has_becomes_one_of_its_own_and_stays_it(
    ann: ReflectionMemory, bob: ReflectionMemory, reflection: Maker
) -> None:
    batch = [
        reflection("rf-secret", "Bob's own."),
        reflection("rf-rule", "A rule.", derived_from=["rf-secret", "rf-b"], merged_into="rf-secret"),
    ]
    own, rule = bob.remember(batch)
    assert (own != "rf-secret", rule) == (True, "rf-rule")
    assert bob.show(own).reflection.text == "Bob's own."
    kept = bob.show(rule).reflection
    assert (kept.derived_from, kept.merged_into) == ([own, "rf-b"], own)
    assert bob.remember(batch) == [own, rule]
    assert (bob.count(), ann.count()) == (2, 1)
    assert ann.show("rf-secret").reflection.text == "The silver key is Ann's."


def test_a_small_namespace_among_a_large_one_finds_all_its_own(
    ann: ReflectionMemory, bob: ReflectionMemory, reflection: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.retrieval.retriever.CANDIDATES", 8)
    ann.remember([reflection(f"ann-{number}", f"The silver key number {number}.") for number in range(300)])
    bob.remember([reflection(f"bob-{number}", f"A wooden chest, number {number}.") for number in range(5)])
    bob.remember([reflection("bob-key", "The silver key.")])
    # All of Ann's are nearer than Bob's chests, and more than are looked at before the search keeps to Bob's.
    assert ids(bob.search("the silver key number", k=1)) == ["bob-key"]
    assert len(bob.search("the silver key", k=10)) == 6


def test_one_index_serves_all(ann: ReflectionMemory, bob: ReflectionMemory, reflection: Maker) -> None:
    bob.remember([reflection("own", "A door.")])
    bob.search("door")
    assert len(bob.index) == 2
