"""Operations: changes that belong together carry one number."""

from __future__ import annotations

import pytest

from memory import Database, Reflection
from memory.errors import UnknownOperation


def note(name: str, text: str = "coins hide in the kitchen") -> Reflection:
    return Reflection(id=name, kind="grounded", env="toy/doors", task="toy/doors:train:0", text=text)


def test_versions_written_inside_an_operation_carry_its_number(database: Database) -> None:
    with database.operation("merge", "two into one") as number:
        database.put_reflection(note("a"))
        database.put_reflection(note("b"))
    database.put_reflection(note("c"))
    assert [database.reflection_versions(name)[0].operation for name in "abc"] == [number, number, None]
    (operation,) = database.operations()
    assert (operation.name, operation.detail, operation.undone, operation.changed) == (
        "merge",
        "two into one",
        False,
        2,
    )
    assert database.get_operation(operation.id[:8]) == operation


def test_an_operation_inside_another_is_part_of_it(database: Database) -> None:
    with database.operation("consolidation") as outer, database.operation("merge") as inner:
        database.put_reflection(note("a"))
    assert inner == outer
    assert [operation.name for operation in database.operations()] == ["consolidation"]


def test_an_operation_that_changed_nothing_or_failed_leaves_no_trace(database: Database) -> None:
    with database.operation("edit"):
        pass
    with pytest.raises(RuntimeError), database.operation("edit"):
        database.put_reflection(note("a"))
        raise RuntimeError("stop")
    assert database.operations() == []
    assert not database.has_reflection("a")
    database.put_reflection(note("b"))
    assert database.reflection_versions("b")[0].operation is None


def test_an_unknown_operation_is_answered_with_how_to_see_all(database: Database) -> None:
    with pytest.raises(UnknownOperation, match="agentlab memory history"):
        database.get_operation("op-1")
