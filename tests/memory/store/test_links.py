"""Links between reflections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import Database, Reflection
from memory.errors import CannotUndo, UnknownOperation
from memory.records import Link
from memory.store.history import History
from memory.store.links import LinkChange


def similar(source: str, target: str, weight: float = 0.5, at: str = "2025-01-01") -> Link:
    return Link(source=source, target=target, kind="similar", weight=weight, at=at)


def test_links_are_found_from_both_ends_the_strongest_first(database: Database) -> None:
    weak, strong = Link(source="a", target="b", kind="similar", weight=0.3), Link(source="c", target="a", kind="merged")
    database.links.put([weak, strong])
    assert database.links.of("a") == [strong, weak]
    assert database.links.of("b") == [weak]
    assert database.links.of("a", kind="merged") == [strong]


def test_a_link_written_again_is_strengthened_not_doubled(database: Database) -> None:
    for weight in (0.3, 0.8):
        database.links.put([Link(source="a", target="b", kind="similar", weight=weight)])
    assert [link.weight for link in database.links.of("a")] == [0.8]
    database.links.drop("b")
    assert database.links.of("a") == []


def test_a_link_that_says_the_same_again_is_left_as_it_is(database: Database) -> None:
    database.links.put([similar("a", "b", at="2025-01-01")])
    database.links.put([similar("a", "b", at="2025-02-02")])
    assert database.links.of("a")[0].at == "2025-01-01"


def test_the_links_of_a_kind_from_one_reflection_are_replaced_together(database: Database) -> None:
    other, kept = Link(source="a", target="b", kind="merged"), similar("a", "c")
    database.links.put([similar("a", "b"), kept, other, similar("d", "a")])
    database.links.replace("a", "similar", [kept, similar("a", "e", 0.9)])
    assert database.links.of("a") == [other, similar("a", "e", 0.9), kept, similar("d", "a")]


# Links in operations


def test_an_operation_knows_each_link_before_and_after(database: Database) -> None:
    old = [similar("a", "b", 0.1), similar("a", "c", 0.2), similar("a", "d", 0.3)]
    database.links.put(old)
    with database.operations.record("links", "a") as number:
        database.links.put([similar("a", "b", 0.4), similar("a", "e", 0.6)])
        database.links.put([similar("a", "b", 0.7), similar("a", "f", 0.1)])
        database.links.drop("c")
        database.links.drop("f")
        database.links.put([similar("a", "d", 0.3)])
    database.links.put([similar("a", "e", 0.8)])
    assert database.links.changes(number) == [
        LinkChange(old[0], similar("a", "b", 0.7)),
        LinkChange(old[1], None),
        LinkChange(None, similar("a", "e", 0.6)),
    ]
    (operation,) = database.operations.recent()
    assert (operation.changed, operation.links) == (4, 4), "also one that came and went"


def test_undo_takes_links_back_and_undoing_it_brings_them_again(database: Database) -> None:
    past = History(database)
    before = [similar("a", "c", 0.9), similar("a", "b", 0.1)]
    database.links.put(before)
    with database.operations.record("links", "a"):
        database.links.replace("a", "similar", [similar("a", "b", 0.4, "2025-03-03"), similar("a", "d", 0.3)])
    after = database.links.of("a")
    undo = past.undo(database.operations.recent()[0].id)
    assert (undo.changed, undo.links) == (3, 3)
    assert database.links.of("a") == before
    again = past.undo(undo.id)
    assert database.links.of("a") == after
    past.undo(again.id)
    assert database.links.of("a") == before


def test_a_link_that_was_changed_since_stands_in_the_way_of_an_undo(database: Database) -> None:
    past = History(database)
    for weight in (0.4, 0.6):
        with database.operations.record("links", "a"):
            database.links.put([similar("a", "b", weight)])
    second, first = database.operations.recent()
    with pytest.raises(
        CannotUndo, match=rf"from a to b was changed later by {second.id} \(links\); undo that one first"
    ):
        past.undo(first.id)
    past.undo(second.id)
    past.undo(first.id)
    assert database.links.of("a") == []


def test_a_link_that_was_changed_outside_of_any_operation_is_not_overwritten(database: Database) -> None:
    with database.operations.record("links", "a"):
        database.links.put([similar("a", "b", 0.4)])
    database.links.drop("a")
    with pytest.raises(CannotUndo, match="changed later, and nothing tells how; leave it"):
        History(database).undo(database.operations.recent()[0].id)


def test_an_operation_on_links_belongs_to_the_namespace_of_their_ends(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    for id in "ab":
        database.reflections.put(reflection(id, namespace="mine"))
    with database.operations.record("links", "a"):
        database.links.put([similar("a", "b")])
    (operation,) = database.operations.recent()
    assert History(database, namespace="other").operations() == []
    with pytest.raises(UnknownOperation):
        History(database, namespace="other").links(operation.id)
    mine = History(database, namespace="mine")
    assert mine.operations() == [operation]
    assert mine.undo(operation.id).links == 1


def test_an_older_file_learns_which_operation_made_a_link(
    path: Path, older: Any, reflection: Callable[..., Reflection]
) -> None:
    with older(6, reflection("a"), reflection("b", status="merged", merged_into="a"), reflection("c")) as old:
        for statement in (
            "INSERT INTO operations (id, at, name, detail) VALUES ('op-1', '2025-01-01', 'merge', '')",
            "INSERT INTO reflection_versions SELECT number, 2, '2025-01-01', 'merged', payload, 1 FROM reflections "
            "WHERE id = 'b'",
            "INSERT INTO reflection_versions SELECT number, 1, '2025-01-01', 'written', payload, NULL FROM reflections",
            "INSERT INTO links VALUES ('b', 'a', 'merged', 1, '2025-01-01'), ('c', 'a', 'similar', 0.5, '2025-01-01')",
        ):
            old.connection.execute(statement)
    with Database(path) as new:
        (merge,) = new.operations.recent()
        assert new.links.changes(1) == [LinkChange(None, Link(source="b", target="a", kind="merged", at="2025-01-01"))]
        History(new).undo(merge.id)
        assert new.links.of("a") == [similar("c", "a")]
