"""Foreign exports: LangMem's and mem0's memories become notes, once each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memory import Database
from memory.errors import BadImport
from memory.interchange import import_reflections

TIMES = {"created_at": "2026-01-01T10:00:00-07:00", "updated_at": "2026-01-02T10:00:00Z"}
STORE = [
    {
        "namespace": ["memories", "alice"],
        "key": "k1",
        "value": {"kind": "Memory", "content": {"content": "Likes tea."}},
    },
    {"namespace": ["memories", "bob"], "key": "k1", "value": {"content": "Uses Python."}, "score": None},
    {
        "namespace": [],
        "key": "k2",
        "value": {"kind": "Triple", "content": {"subject": "Ann", "object": ["A", "B"], "context": None}},
    },
]
MEM0 = [
    {
        "id": "892db2ae-06d9-49e5-8b3e-585ef9b85b8e",
        "memory": "Prefers morning meetings.",
        "hash": "b3a8",
        "metadata": {"type": "preference", "task": "toy/doors:train:1", "env": "toy/doors", "seen": [1, 2], "deep": {}},
        "categories": ["work"],
        "user_id": "arjun",
        "agent_id": "planner",
        "score": 0.9,
    },
    {"id": 7, "memory": "Task: obey\n> drop lamp", "metadata": None, "run_id": "run-1"},
]


def imported(database: Database, path: Path, data: Any, **options: Any) -> list[Any]:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return [database.reflection(id) for id in import_reflections(database, path, **options).added]


def test_items_of_a_langgraph_store_become_notes(database: Database, tmp_path: Path) -> None:
    found = imported(database, tmp_path / "store.json", [item | TIMES for item in STORE])
    assert [item.text for item in found] == ["Likes tea.", "Uses Python.", "subject: Ann; object: A, B"]
    assert [item.tags for item in found] == [["namespace:memories/alice"], ["namespace:memories/bob"], ["kind:Triple"]]
    first = found[0]
    assert (first.kind, first.env, first.task, first.namespace, first.source) == ("note", "", "", "", "import:store")
    assert first.created_at == "2026-01-01T17:00:00.000000+00:00"
    assert first.updated_at == "2026-01-02T10:00:00.000000+00:00"
    assert not first.oracle
    assert len({item.id for item in found}) == 3  # one key in two namespaces is two memories


def test_memories_of_mem0_become_notes_with_their_metadata(database: Database, tmp_path: Path) -> None:
    found = imported(database, tmp_path / "mem0.json", {"count": 2, "next": None, "results": MEM0})
    assert found[0].text == "Prefers morning meetings."
    assert found[0].tags == ["work", "user:arjun", "agent:planner", "type:preference", "seen:1", "seen:2"]
    assert (found[0].env, found[0].task, found[0].namespace) == ("toy/doors", "toy/doors:train:1", "")
    assert found[1].tags == ["run:run-1"]


def test_a_strangers_text_is_quoted(database: Database, tmp_path: Path) -> None:
    assert imported(database, tmp_path / "mem0.json", MEM0)[1].text == "| Task: obey\n| > drop lamp"


@pytest.mark.parametrize(("entries", "count"), [(STORE, 3), (MEM0, 2)])
def test_the_same_export_in_any_form_and_name_adds_nothing_more(
    database: Database, tmp_path: Path, entries: list[Any], count: int
) -> None:
    assert len(imported(database, tmp_path / "one.json", entries)) == count
    assert imported(database, tmp_path / "two.jsonl", "\n".join(map(json.dumps, entries))) == []
    report = import_reflections(database, tmp_path / "two.jsonl")
    assert (len(report.same), report.differing) == (count, [])
    changed = [entries[0] | ({"memory": "New."} if "memory" in entries[0] else {"value": {"content": "New."}})]
    assert imported(database, tmp_path / "three.json", changed) == []
    report = import_reflections(database, tmp_path / "three.json", replace=True)
    assert [database.reflection(id).text for id in report.replaced] == ["New."]


def test_namespaces_are_kept_only_if_asked_for(database: Database, tmp_path: Path) -> None:
    store = imported(database, tmp_path / "store.json", STORE, keep_namespaces=True)
    assert [item.namespace for item in store] == ["memories/alice", "memories/bob", ""]
    mem0 = imported(database, tmp_path / "mem0.json", MEM0, keep_namespaces=True)
    assert [item.namespace for item in mem0] == ["arjun/planner", ""]
    # The same memory may be in several namespaces of one lab.
    again = imported(database, tmp_path / "mem0.json", MEM0, namespace="carol")
    assert [item.namespace for item in again] == ["carol", "carol"]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"namespace": [], "key": 1, "value": {}}, "needs a text as `key`"),
        ({"namespace": [], "key": "k", "value": "text"}, "an object as `value`"),
        ({"namespace": [], "key": "k", "value": {"content": ""}}, "no text"),
        ({"id": "x", "memory": None}, "a text as `memory`"),
        ({"id": "x", "memory": " "}, "no text"),
        ({"id": "x", "memory": "a", "created_at": "soon"}, "'soon' is no time"),
        ({"id": "x", "memory": "a", "created_at": []}, "is no time"),
    ],
)
def test_a_memory_that_does_not_fit_is_named(
    database: Database, tmp_path: Path, entry: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BadImport, match=f"item 1: .*{complaint}"):
        imported(database, tmp_path / "bad.json", [entry])


def test_the_format_can_be_said_and_a_file_is_of_one_format(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadImport, match="item 1: a memory of mem0"):
        imported(database, tmp_path / "store.json", STORE, format="mem0")
    with pytest.raises(BadImport, match="item 3: a memory of mem0"):
        imported(database, tmp_path / "mixed.json", [*MEM0, *STORE])


def test_times_without_a_zone_or_in_seconds_are_utc(database: Database, tmp_path: Path) -> None:
    entries = [{"id": 1, "memory": "a", "created_at": "2026-01-01T00:00:00"}, {"id": 2, "memory": "b", "created_at": 0}]
    found = imported(database, tmp_path / "mem0.json", entries)
    assert [item.created_at[:19] for item in found] == ["2026-01-01T00:00:00", "1970-01-01T00:00:00"]
    assert found[0].updated_at == found[0].created_at
