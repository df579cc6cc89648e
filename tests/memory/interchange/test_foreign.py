"""Foreign exports: LangMem's and mem0's memories become notes, once each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from memory import Database
from memory.errors import BadImport
from memory.interchange.transfer import import_reflections

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
    return [database.reflections.get(id) for id in import_reflections(database, path, **options).added]


def test_items_of_a_langgraph_store_become_notes(database: Database, tmp_path: Path) -> None:
    found = imported(database, tmp_path / "store.json", [item | TIMES for item in STORE])
    assert [item.text for item in found] == ["Likes tea.", "Uses Python.", "subject: Ann; object: A, B"]
    day = "written:2026-01-01"
    assert [item.tags for item in found] == [
        ["namespace:memories/alice", day], ["namespace:memories/bob", day], ["kind:Triple", day]
    ]  # fmt: skip
    first = found[0]
    assert (first.kind, first.env, first.task, first.namespace, first.source) == ("note", "", "", "", "import:store")
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
    assert [database.reflections.get(id).text for id in report.replaced] == ["New."]


def test_namespaces_are_kept_only_if_asked_for(database: Database, tmp_path: Path) -> None:
    store = imported(database, tmp_path / "store.json", STORE, keep_namespaces=True)
    assert [item.namespace for item in store] == ["memories/alice", "memories/bob", ""]
    mem0 = imported(database, tmp_path / "mem0.json", MEM0, keep_namespaces=True)
    assert [item.namespace for item in mem0] == ["arjun/planner", ""]
    # The same memory may be in several namespaces of one lab.
    again = imported(database, tmp_path / "mem0.json", MEM0, namespace="carol")
    assert [item.namespace for item in again] == ["carol", "carol"]


ROW = {"prefix": "memories.u1", "key": "k1", "created_at": "2025-03-01 10:00:00.123456+00", "ttl_minutes": None}
OPEN = {"metadata": {}, "created_at": "2025-03-01T10:00:00+00:00", "updated_at": None}


def test_rows_of_a_stores_table_are_its_items(database: Database, tmp_path: Path) -> None:
    rows = [
        ROW | {"value": {"kind": "Memory", "content": {"content": "Fact 0."}}, "expires_at": None},
        ROW | {"key": "k2", "value": json.dumps({"content": "Lives near the sea."}), "namespace": ["m"]},
    ]
    found = imported(database, tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert [item.text for item in found] == ["Fact 0.", "Lives near the sea."]
    assert found[0].tags == ["namespace:memories/u1", "written:2025-03-01"]
    # A row and the item that it holds are one memory.
    item = {"namespace": ["memories", "u1"], "key": "k1", "value": {"content": "Fact 0."}}
    assert imported(database, tmp_path / "items.json", [item]) == []


def test_memories_of_openmemory_are_read_and_those_out_of_use_left_out(database: Database, tmp_path: Path) -> None:
    active = OPEN | {"id": "o-0", "content": "Prefers short answers.", "state": "active", "user_id": "1"}
    deleted = OPEN | {"id": "o-1", "content": "Old address.", "state": "deleted", "user_id": "1"}
    path = tmp_path / "memories.json"
    path.write_text(json.dumps({"user": {"id": "1"}, "apps": [], "memories": [active, deleted]}, indent=2))
    report = import_reflections(database, path)
    assert [database.reflections.get(id).text for id in report.added] == ["Prefers short answers."]
    assert report.left_out == ["item 2: it is deleted there"]
    lined = tmp_path / "memories.jsonl.gz"
    app = {"app": "client", "categories": ["work"]}
    lined.write_bytes(
        gzip.compress("".join(json.dumps(item | app) + "\n" for item in (active, deleted)).encode(), mtime=0)
    )
    (id,) = import_reflections(database, lined, namespace="carol").added
    assert database.reflections.get(id).tags == ["work", "user:1", "app:client", "written:2025-03-01"]


def test_points_of_a_vector_store_of_mem0_are_its_memories(database: Database, tmp_path: Path) -> None:
    point = {"id": "p", "payload": {"data": "Likes tea.", "hash": "h", "user_id": "u1"}, "vector": [0.1, 0.2]}
    (found,) = imported(database, tmp_path / "points.json", [point])
    assert (found.text, found.tags) == ("Likes tea.", ["user:u1"])


@pytest.mark.parametrize("bad", [None, "", " \u200b "])
def test_one_memory_without_a_text_leaves_the_others(database: Database, tmp_path: Path, bad: str | None) -> None:
    entries = [{"id": "a", "memory": bad}, {"id": "b", "memory": "Fact."}, {"id": "c", "memory": bad}]
    (tmp_path / "mem0.json").write_text(json.dumps({"success": True, "data": {"results": entries, "total": 3}}))
    report = import_reflections(database, tmp_path / "mem0.json")
    assert [database.reflections.get(id).text for id in report.added] == ["Fact."]
    assert report.left_out == ["line 1, item 1: it has no text", "line 1, item 3: it has no text"]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"namespace": [], "key": 1, "value": {}}, "needs a text as `key`"),
        ({"namespace": [], "key": "k", "value": "text"}, "an object as `value`"),
        ({"namespace": [], "key": "k", "value": "{"}, "not valid JSON"),
        ({"namespace": [], "key": "k", "value": {"content": ""}}, "no text"),
        (ROW | {"value": {"content": "x"}, "expires_at": "2025-03-02T00:00:00+00:00"}, "expired"),
        ({"id": "x", "memory": 7}, "a text as `memory`"),
        ({"id": [], "memory": "a"}, "needs an `id`"),
        ({"id": "x", "memory": " "}, "no text"),
        ({"id": "x", "memory": "a", "event": "DELETE"}, "deleted"),
        ({"id": "x", "content": "a", "state": "archived"}, "archived"),
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
        imported(database, tmp_path / "mixed.json", [*MEM0, *STORE], strict=True)
    assert len(imported(database, tmp_path / "mixed.json", [*MEM0, *STORE])) == 2
