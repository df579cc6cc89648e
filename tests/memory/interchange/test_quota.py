"""Quotas: one source cannot fill the memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from memory import Database, Reflection, ReflectionMemory
from memory.errors import QuotaExceeded


@pytest.fixture
def notes_from(reflection: Callable[..., Reflection]) -> Callable[..., list[Reflection]]:
    def made(source: str, *names: str, **values: object) -> list[Reflection]:
        return [reflection(name, f"Note {name}.", source=source, **values) for name in names]

    return made


def test_a_source_over_its_quota_is_refused_in_one_line_and_nothing_of_it_is_kept(
    database: Database, open_memory: Callable[..., ReflectionMemory], notes_from: Callable[..., list[Reflection]]
) -> None:
    memory = open_memory(quota=2)
    memory.remember(notes_from("import:web", "a", "b"))
    with pytest.raises(QuotaExceeded, match=r"'import:web' would have brought in 3 .* of 2 .*source_quota") as refusal:
        memory.remember(notes_from("import:web", "c"))
    assert "\n" not in str(refusal.value)
    assert not database.reflections.has("c")
    memory.remember(notes_from("import:web", "a", "b"))  # nothing new, so nothing to refuse
    memory.remember(notes_from("import:notes", "d", "e"))  # another source
    open_memory(quota=2, namespace="other").remember(notes_from("import:web", "f"))  # another memory


def test_who_names_itself_has_no_quota_of_its_own(
    database: Database, open_memory: Callable[..., ReflectionMemory], notes_from: Callable[..., list[Reflection]]
) -> None:
    memory = open_memory(quota=2)
    memory.remember([*notes_from("mcp:alice", "a"), *notes_from("mcp:bob", "b"), *notes_from("mcpx", "c", "d")])
    with pytest.raises(QuotaExceeded, match=r"3 .* of 2 .*source_quota"):
        memory.remember(notes_from("mcp:carol", "e"))
    assert not database.reflections.has("e")
    memory.remember(notes_from("import:web", "f"))


def test_the_agent_itself_has_no_quota(
    open_memory: Callable[..., ReflectionMemory], notes_from: Callable[..., list[Reflection]]
) -> None:
    memory = open_memory(quota=0)
    assert memory.remember(notes_from("", "a", "b", "c")) == ["a", "b", "c"]


def test_what_is_out_of_use_or_came_a_day_ago_does_not_count_but_an_old_date_does(
    database: Database, open_memory: Callable[..., ReflectionMemory], notes_from: Callable[..., list[Reflection]]
) -> None:
    memory = open_memory(quota=1)
    memory.remember(notes_from("web", "a"))
    memory.forget("a")
    memory.remember(notes_from("web", "b", created_at="2020-01-01T00:00:00.000000+00:00"))
    with pytest.raises(QuotaExceeded):
        memory.remember(notes_from("web", "c", created_at="2020-01-01T00:00:00.000000+00:00"))
    yesterday = (datetime.now(UTC) - timedelta(hours=25)).isoformat(timespec="microseconds")
    database.connection.execute("UPDATE reflection_versions SET at = ?", (yesterday,))
    assert memory.remember(notes_from("web", "c")) == ["c"]
