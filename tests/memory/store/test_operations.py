"""Operations: changes that belong together carry one number."""

from __future__ import annotations

import pytest

from memory import Database, Reflection
from memory.errors import UnknownOperation


def note(name: str, text: str = "coins hide in the kitchen") -> Reflection:
    return Reflection(id=name, kind="grounded", env="toy/doors", task="toy/doors:train:0", text=text)


def test_versions_written_inside_an_operation_carry_its_number(database: Database) -> None:
    with database.operations.record("merge", "two into one") as number:
        database.reflections.put(note("a"))
        database.reflections.put(note("b"))
    database.reflections.put(note("c"))
    assert [database.versions.of(name)[0].operation for name in "abc"] == [number, number, None]
    (operation,) = database.operations.recent()
    assert (operation.name, operation.detail, operation.undone, operation.changed) == (
        "merge",
        "two into one",
        False,
        2,
    )
    assert database.operations.get(operation.id[:8]) == operation


def test_an_operation_inside_another_is_part_of_it(database: Database) -> None:
    with database.operations.record("consolidation") as outer, database.operations.record("merge") as inner:
        database.reflections.put(note("a"))
    assert inner == outer
    assert [operation.name for operation in database.operations.recent()] == ["consolidation"]


def test_an_operation_that_changed_nothing_or_failed_leaves_no_trace(database: Database) -> None:
    with database.operations.record("edit"):
        pass
    with pytest.raises(RuntimeError), database.operations.record("edit"):
        database.reflections.put(note("a"))
        raise RuntimeError("stop")
    assert database.operations.recent() == []
    assert not database.reflections.has("a")
    database.reflections.put(note("b"))
    assert database.versions.of("b")[0].operation is None


def test_an_unknown_operation_is_answered_with_how_to_see_all(database: Database) -> None:
    with pytest.raises(UnknownOperation, match="agentlab memory history"):
        database.operations.get("op-1")
