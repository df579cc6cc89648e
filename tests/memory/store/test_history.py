"""History: what was done is listed, compared and taken back."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from memory import Database, Reflection, ReflectionMemory
from memory.errors import BadMoment, CannotUndo, PinnedReflection, UnknownOperation, UnknownReflection
from memory.store.history import History
from memory.store.operations import Operation


@pytest.fixture
def past(database: Database) -> History:
    return History(database)


@pytest.fixture
def kept(memory: ReflectionMemory, reflection: Callable[..., Reflection]) -> ReflectionMemory:
    memory.remember([reflection("a", "Text of a."), reflection("b", "Text of b.")])
    return memory


def newest(past: History) -> Operation:
    return past.operations(limit=1)[0]


def at(database: Database, id: str, version: int, moment: str) -> None:
    database.connection.execute(
        "UPDATE reflection_versions SET at = ? WHERE version = ? "
        "AND reflection = (SELECT number FROM reflections WHERE id = ?)",
        (f"{moment}T00:00:00.000000+00:00", version, id),
    )


def test_undoing_an_edit_puts_the_text_back_and_undoing_that_does_it_again(
    kept: ReflectionMemory, past: History
) -> None:
    kept.edit("a", "Better.")
    edit = newest(past)
    undo = past.undo(edit.id[:9])
    assert (undo.name, undo.detail, undo.changed) == ("undo", edit.id, 1)
    assert kept.database.reflections.get("a").text == "Text of a."
    assert past.operation(edit.id).undone
    again = past.undo(undo.id)
    assert kept.database.reflections.get("a").text == "Better."
    assert [past.operation(id).undone for id in (edit.id, undo.id, again.id)] == [False, True, False]
    past.undo(again.id)
    assert kept.database.reflections.get("a").text == "Text of a."
    assert past.operation(edit.id).undone


def test_a_whole_operation_is_taken_back_and_what_it_made_is_forgotten(
    kept: ReflectionMemory, past: History, reflection: Callable[..., Reflection]
) -> None:
    database = kept.database
    with database.operations.record("merge", "a and b into c"):
        for id in "ab":
            merged = database.reflections.get(id).model_copy(update={"status": "merged", "merged_into": "c"})
            database.reflections.put(merged)
        database.reflections.put(reflection("c", "Text of both."))
        database.reflections.put(reflection("c", "Text of both, mended."))
    merge = newest(past)
    assert [(change.id, change.kind) for change in past.changes(merge.id)] == [
        ("a", "removed"), ("b", "removed"), ("c", "added"),
    ]  # fmt: skip
    undo = past.undo(merge.id)
    assert [database.reflections.get(id).status for id in "abc"] == ["active", "active", "forgotten"]
    assert database.reflections.get("a").merged_into is None
    past.undo(undo.id)
    assert [database.reflections.get(id).status for id in "abc"] == ["merged", "merged", "active"]
    assert database.reflections.get("c").text == "Text of both, mended."


def test_what_was_undone_is_found_again_by_a_search(kept: ReflectionMemory, past: History) -> None:
    kept.edit("a", "Parrots speak.")
    assert kept.search("Parrots speak.", k=1)[0].reflection.id == "a"
    past.undo(newest(past).id)
    assert kept.search("Text of a.", k=1)[0].reflection.text == "Text of a."


def test_an_operation_whose_work_was_changed_since_is_refused_with_the_later_one(
    kept: ReflectionMemory, past: History
) -> None:
    kept.edit("a", "Better.")
    edit = newest(past)
    kept.pin("a")
    pin = newest(past)
    with pytest.raises(CannotUndo, match=rf"{edit.id} .* a was changed later by {pin.id} \(pinned\); undo that one"):
        past.undo(edit.id)
    past.undo(pin.id)
    past.undo(edit.id)  # the later one is undone now
    assert (kept.database.reflections.get("a").text, kept.database.reflections.get("a").pinned) == ("Text of a.", False)


def test_an_undo_cannot_be_taken_back_across_an_older_undo(kept: ReflectionMemory, past: History) -> None:
    kept.pin("a")
    pin = newest(past)
    kept.edit("a", "Better.")
    first = past.undo(newest(past).id)
    second = past.undo(pin.id)
    with pytest.raises(CannotUndo, match=second.id):
        past.undo(first.id)  # it would bring the pin back with the text
    past.undo(second.id)
    past.undo(first.id)
    assert (kept.database.reflections.get("a").text, kept.database.reflections.get("a").pinned) == ("Better.", True)


def test_a_change_outside_any_operation_also_stands_in_the_way(kept: ReflectionMemory, past: History) -> None:
    kept.pin("a")
    kept.database.reflections.put(kept.database.reflections.get("a").model_copy(update={"votes": 2}), change="voted")
    with pytest.raises(CannotUndo, match=r"a was changed later \(voted\)"):
        past.undo(newest(past).id)


def test_what_is_undone_already_names_what_does_it_again(kept: ReflectionMemory, past: History) -> None:
    kept.pin("a")
    pin = newest(past)
    undo = past.undo(pin.id)
    with pytest.raises(CannotUndo, match=rf"undone already; `agentlab memory undo {undo.id}` does it again"):
        past.undo(pin.id)


def test_an_operation_that_left_nothing_in_use_has_nothing_to_take_back(
    kept: ReflectionMemory, past: History, reflection: Callable[..., Reflection]
) -> None:
    with kept.database.operations.record("import"):
        kept.database.reflections.put(reflection("c", status="forgotten"))
    target = newest(past)
    with pytest.raises(CannotUndo, match="nothing to take back"):
        past.undo(target.id)
    assert newest(past) == target


def test_undoing_everything_backwards_gives_back_the_beginning(kept: ReflectionMemory, past: History) -> None:
    database, chance = kept.database, random.Random(7)
    beginning = {id: database.reflections.get(id).model_dump(exclude={"updated_at"}) for id in "ab"}
    verbs = [kept.pin, kept.unpin, kept.forget, kept.restore, lambda id: kept.edit(id, f"Text {chance.random()}")]
    for _ in range(30):
        with suppress(PinnedReflection):
            chance.choice(verbs)(chance.choice("ab"))
        if chance.random() < 0.3:
            done = [operation for operation in past.operations() if not operation.undone]
            past.undo(done[0].id) if done else None
    for operation in past.operations():
        if operation.name != "undo" and not past.operation(operation.id).undone:
            past.undo(operation.id)
    assert {id: database.reflections.get(id).model_dump(exclude={"updated_at"}) for id in "ab"} == beginning


def test_versions_come_with_what_each_one_changed(kept: ReflectionMemory, past: History) -> None:
    kept.edit("a", "First line.\nSecond line.")
    kept.pin("a")
    (_, first), (_, second), (last, third) = past.versions("a")
    assert (first.before, first.fields(), second.fields()) == (None, {}, {})
    assert second.text_diff()[1:] == ["-Text of a.", "+First line.", "+Second line."]
    assert (last.change, third.fields(), third.text_diff()) == ("pinned", {"pinned": (False, True)}, [])


def test_a_diff_tells_what_was_added_removed_brought_back_and_changed(
    kept: ReflectionMemory, past: History, reflection: Callable[..., Reflection]
) -> None:
    database = kept.database
    kept.remember([reflection("old"), reflection("gone", status="benched"), reflection("still")])
    for id in ("a", "b", "old", "gone", "still"):
        at(database, id, 1, "2026-01-01")
    kept.edit("a", "Better.")
    at(database, "a", 2, "2026-02-01")
    kept.forget("b")
    at(database, "b", 2, "2026-02-02")
    kept.restore("gone")
    at(database, "gone", 2, "2026-02-03")
    kept.remember([reflection("new")])
    at(database, "new", 1, "2026-02-04")
    kept.pin("old")
    kept.unpin("old")
    at(database, "old", 2, "2026-02-05")
    at(database, "old", 3, "2026-02-06")
    found = past.diff("2026-01-15T00:00Z", "2026-03-01T00:00Z")
    ids = {kind: [change.id for change in found.of(kind)] for kind in ("added", "removed", "returned", "changed")}
    assert ids == {"added": ["new"], "removed": ["b"], "returned": ["gone"], "changed": ["a"]}
    assert found.of("changed")[0].text_diff()[1:] == ["-Text of a.", "+Better."]
    assert found.of("removed")[0].fields() == {"status": ("active", "forgotten")}
    # Both ends count: what happened at the first moment lies before it, at the last within.
    edges = past.diff("2026-02-01T00:00Z", "2026-02-02T00:00Z")
    assert [change.id for change in edges.changes] == ["b"]
    assert [change.id for change in past.diff("2026-02-04T12:00Z", "2026-02-05T12:00Z").changes] == ["old"]
    assert len(past.diff("start").of("added")) == 6
    assert past.diff("now", "now").changes == []
    with pytest.raises(BadMoment, match="earlier time first"):
        past.diff("now", "3d")


def test_a_diff_looks_only_at_what_changed_in_between(kept: ReflectionMemory, past: History) -> None:
    plan = kept.database.connection.execute(
        "EXPLAIN QUERY PLAN SELECT number FROM reflections WHERE number IN "
        "(SELECT reflection FROM reflection_versions WHERE at > 'a' AND at <= 'b')"
    )
    steps = " | ".join(row[-1] for row in plan)
    assert "SEARCH reflection_versions USING" in steps
    assert "SCAN" not in steps


def test_a_namespace_sees_and_undoes_only_its_own(
    kept: ReflectionMemory, reflection: Callable[..., Reflection]
) -> None:
    database = kept.database
    database.reflections.put(reflection("theirs", namespace="bob"))
    kept.pin("a")
    with database.operations.record("edit", "theirs"):
        database.reflections.put(reflection("theirs", "Changed.", namespace="bob"))
    with database.operations.record("import", "both"):
        database.reflections.put(reflection("c"))
        database.reflections.put(reflection("d", namespace="bob"))
    both, edit, pin = database.operations.recent()
    bob, whole = History(database, namespace="bob"), History(database)
    assert [operation.id for operation in bob.operations()] == [both.id, edit.id]
    assert [operation.id for operation in bob.operations(limit=1)] == [both.id]
    assert [change.id for change in bob.changes(both.id)] == ["d"]
    assert [change.id for change in bob.diff("start").changes] == ["theirs", "d"]
    with pytest.raises(UnknownOperation):
        bob.undo(pin.id)
    with pytest.raises(UnknownReflection):
        bob.versions("a")
    with pytest.raises(CannotUndo, match="another namespace"):
        bob.undo(both.id)
    bob.undo(edit.id)
    assert database.reflections.get("theirs").text == "Coins are found in the kitchen."
    assert bob.versions("theirs")[-1][0].change == "undone"
    whole.undo(both.id)
    assert database.reflections.get("d").status == "forgotten"
