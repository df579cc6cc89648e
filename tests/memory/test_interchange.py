"""Interchange: a memory leaves a lab and comes into another whole, or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory import Database, Recall, Reflection, ReflectionMemory
from memory.cleaning import cleaned
from memory.errors import BadImport, CannotUndo, InvalidReflection, MemoryStoreError, QuotaExceeded
from memory.history import History
from memory.interchange import ImportReport, export_reflections, import_reflections
from memory.records import Advice, Link
from memory.reflections import Filter

LATER = "2026-03-01T00:00:00.000000+00:00"


@pytest.fixture
def rich(memory: ReflectionMemory, reflection: Callable[..., Reflection], advice: Callable[..., Advice]) -> Database:
    """A memory in which every field, recalls, links and versions are used."""
    database = memory.database
    memory.remember(
        [
            reflection("r-a", "Coins.\u2028In “rooms” 🪙\tand\nhalls.", advice=[advice(value=0.1 + 0.2)], goal="Find."),
            reflection("r-b", "", advice=[advice("Room 1.", "take coin", 1.0), advice(value=0.0)], oracle=False),
            reflection("r-c", "Rule.", tier="rule", votes=-3, derived_from=["r-a"], tags=["x, y", "ü"], source="web"),
        ]
    )  # fmt: skip
    database.put_reflection(reflection("r-d", "Theirs.", namespace="bob", importance=1 / 3, pinned=True))
    memory.edit("r-a", "Coins are in the kitchen.")
    memory.forget("r-a")
    merged = database.reflection("r-b").model_copy(update={"status": "merged", "merged_into": "r-c"})
    database.put_reflection(merged, change="merged")
    database.put_recalls(
        [
            Recall(episode=episode, reflection=id, rank=0, query="q", score=1 / 7, parts={"relevance": 0.1}, won=won,
                   face=face, env="twx/coin", withheld=won is None, propensity=0.9, at=LATER)
            for episode, id, face, won in [
                ("ep-2", "r-a", "text", True), ("ep-1", "r-a", "text", False), ("ep-1", "r-a", "advice", None),
                ("ep-1", "r-c", "exemplar", True),
            ]
        ]
    )  # fmt: skip
    database.put_links(
        [Link(source="r-c", target="r-a", kind="similar", weight=0.7), Link(source="r-c", target="r-b", kind="x")]
    )
    return database


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "other.db") as database:
        yield database


def lines(database: Database, **options: Any) -> str:
    out = io.StringIO()
    export_reflections(database, out, **options)
    return out.getvalue()


def written(path: Path, *entries: Any) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


ENTRY = {"id": "r-1", "kind": "note", "env": "", "task": "", "text": "Doors open."}


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_memory_that_went_out_and_came_in_elsewhere_is_the_same_to_the_byte(
    rich: Database, empty: Database, tmp_path: Path, name: str, history: bool
) -> None:
    assert export_reflections(rich, tmp_path / name, history=history) == 4
    report = import_reflections(empty, tmp_path / name)
    assert report == ImportReport(added=["r-a", "r-b", "r-c", "r-d"], recalls=4, links=2)
    assert lines(empty, history=history) == lines(rich, history=history)
    assert [empty.reflection(id) for id in report.added] == [rich.reflection(id) for id in report.added]
    assert sorted(empty.recalls_of("r-a"), key=str) == sorted(rich.recalls_of("r-a"), key=str)
    assert empty.links_of("r-a") == rich.links_of("r-a")
    assert empty.recall_counts(["r-a"]) == rich.recall_counts(["r-a"])
    changes = [version.change for version in empty.reflection_versions("r-a")]
    assert changes == (["remembered", "edited", "forgotten", "imported"] if history else ["imported"])


def test_importing_twice_adds_nothing(rich: Database, tmp_path: Path) -> None:
    before = lines(rich, history=True)
    export_reflections(rich, tmp_path / "out.jsonl")
    report = import_reflections(rich, tmp_path / "out.jsonl")
    assert (report.added, report.same, report.recalls, report.links) == ([], ["r-a", "r-b", "r-c", "r-d"], 0, 0)
    assert lines(rich, history=True) == before


def test_recalls_of_a_reflection_that_is_there_already_come_along(rich: Database, tmp_path: Path) -> None:
    data = json.loads(lines(rich, wanted=Filter(source="web")))
    data["recalls"].append({"episode": "ep-9", "rank": 0, "query": "", "score": 0.5, "won": True, "at": LATER})
    report = import_reflections(rich, written(tmp_path / "more.jsonl", data))
    assert (report.same, report.recalls) == (["r-c"], 1)
    assert rich.recall_counts(["r-c"])["r-c"] == (2, 2, 2)


def test_what_differs_is_kept_as_it_is_unless_it_is_to_be_replaced(rich: Database, tmp_path: Path) -> None:
    data = {"id": "r-c", "kind": "grounded", "env": "twx/coin", "task": "t", "text": "Another rule."}
    data |= {"links": [{"target": "r-d", "kind": "x"}, {"target": "r-b", "kind": "y"}]}
    path = written(tmp_path / "out.jsonl", data)
    assert import_reflections(rich, path) == ImportReport(differing=["r-c"])
    assert rich.reflection("r-c").text == "Rule."
    report = import_reflections(rich, path, replace=True)
    # A link into another namespace is left out.
    assert (report.replaced, report.links) == (["r-c"], 1)
    new = rich.reflection("r-c")
    # What the file does not state stays.
    assert (new.text, new.task, new.votes, new.source, new.tags) == ("Another rule.", "t", -3, "web", ["x, y", "ü"])
    assert [version.change for version in rich.reflection_versions("r-c")] == ["remembered", "replaced"]


def test_an_import_is_one_operation_that_can_be_undone(rich: Database, empty: Database, tmp_path: Path) -> None:
    export_reflections(rich, tmp_path / "out.jsonl", history=True, wanted=Filter(status="active"))
    import_reflections(empty, tmp_path / "out.jsonl")
    past = History(empty)
    (operation,) = past.operations()
    assert (operation.name, operation.detail, operation.changed) == ("import", "out.jsonl", 2)
    assert {change.kind for change in past.changes(operation.id)} == {"added"}
    undo = past.undo(operation.id)
    assert empty.count_reflections("active") == 0
    with pytest.raises(CannotUndo):
        past.undo(operation.id)
    past.undo(undo.id)
    assert empty.count_reflections("active") == 2


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{", "not valid JSON"),
        ("7", "not an object"),
        ('{"a": 1}', "id: Field required"),
        (ENTRY | {"importance": 2}, "importance: "),
        (ENTRY | {"colour": "red"}, "colour: "),
        (ENTRY | {"text": " \x1b[0m "}, "text: it is empty"),
        (ENTRY | {"advice": [{"state": "a\ud800", "action": "b", "value": 1}]}, "surrogate"),
        (ENTRY | {"id": "r\x1b[2J"}, "id: "),
        (ENTRY | {"id": "x" * 201}, "id: "),
        (ENTRY | {"created_at": "2026-01-01T00:00:00"}, "time zone"),
        (ENTRY | {"created_at": "soon"}, "soon"),
        (ENTRY | {"recalls": {}}, "recalls: "),
        (ENTRY | {"recalls": [{"episode": "e", "rank": 0, "query": ""}]}, "score: "),
        (ENTRY | {"links": [{"target": "r-2"}]}, "kind: "),
        (ENTRY | {"versions": [{"at": LATER}]}, "versions.1"),
        (ENTRY | {"versions": [{"at": LATER, "change": "", "reflection": ENTRY | {"id": "r-2"}}]}, "of another"),
        (ENTRY | {"versions": [{"at": LATER, "change": "", "reflection": ENTRY | {"text": "x"}}]}, "the last one"),
        (json.dumps(ENTRY)[:-1] + ', "importance": NaN}', "not a finite number"),
        (json.dumps(ENTRY)[:-1] + ', "importance": 1e999}', "not a finite number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_one_bad_line_is_named_and_nothing_is_imported(
    rich: Database, tmp_path: Path, entry: Any, complaint: str
) -> None:
    path = tmp_path / "bad.jsonl"
    bad = entry if isinstance(entry, str) else json.dumps(entry)
    path.write_text(f"{json.dumps(ENTRY | {'id': 'r-0'})}\n\n{bad}\n")
    before = lines(rich, history=True)
    with pytest.raises(BadImport) as refusal:
        import_reflections(rich, path)
    message = str(refusal.value)
    assert message.startswith("bad.jsonl, line 3: ")
    assert complaint in message
    assert "nothing was imported" in message
    assert "\n" not in message
    assert lines(rich, history=True) == before
    assert all(operation.name != "import" for operation in rich.operations())


def test_numbers_that_no_database_holds_are_refused(empty: Database, tmp_path: Path) -> None:
    recall = {"episode": "e", "rank": 10**30, "query": "", "score": 1.0}
    with pytest.raises(BadImport, match="too large"):
        import_reflections(empty, written(tmp_path / "big.jsonl", ENTRY | {"recalls": [recall]}))
    assert empty.count_reflections() == 0


def test_texts_and_names_are_cleaned_and_times_brought_into_one_form(empty: Database, tmp_path: Path) -> None:
    entry = ENTRY | {"text": " Red\x1b[31m\u202e. ", "env": "a\nb", "tags": ["\x1b[1mbold"], "goal": "g\x00"}
    entry |= {"created_at": "2026-01-01T02:00:00+02:00", "links": [{"target": "r-\ud8001", "kind": "x"}]}
    entry |= {"recalls": [{"episode": "ep\x1b[0m\ud800", "rank": 0, "query": "q\x00", "score": 0, "at": LATER}]}
    import_reflections(empty, written(tmp_path / "from web.jsonl", entry))
    kept = empty.reflection("r-1")
    assert (kept.text, kept.env, kept.tags, kept.goal) == ("Red.", "a b", ["bold"], "g")
    assert kept.created_at == kept.updated_at == "2026-01-01T00:00:00.000000+00:00"
    (recall,), (link,) = empty.recalls_of("r-1"), empty.links_of("r-1")
    assert (recall.episode, recall.query, link.target) == ("ep", "q", "r-1")


def test_a_file_of_something_else_says_what_is_read(empty: Database, tmp_path: Path) -> None:
    with pytest.raises(BadImport, match="line 1: it is no reflection, no item of LangMem, and no memory of mem0"):
        import_reflections(empty, written(tmp_path / "x.jsonl", {"a": 1}))


def test_an_item_says_where_it_came_from(empty: Database, tmp_path: Path) -> None:
    path = written(
        tmp_path / "web.jsonl", ENTRY, ENTRY | {"id": "r-2", "source": ""}, ENTRY | {"id": "r-3", "source": "x"}
    )
    import_reflections(empty, path, clock=lambda: LATER)
    assert [empty.reflection(f"r-{n}").source for n in (1, 2, 3)] == ["import:web", "", "x"]
    assert empty.reflection("r-1").created_at == LATER
    # What the file does not state makes no difference, not even under another name.
    assert import_reflections(empty, path.rename(tmp_path / "again.jsonl")).same == ["r-1", "r-2", "r-3"]
    import_reflections(empty, tmp_path / "again.jsonl", source="me", replace=True)
    assert [empty.reflection(f"r-{n}").source for n in (1, 2, 3)] == ["me"] * 3


def test_a_namespace_goes_out_alone_and_comes_in_where_it_is_wanted(
    rich: Database, empty: Database, tmp_path: Path
) -> None:
    assert [json.loads(line)["id"] for line in lines(rich, namespace="bob").splitlines()] == ["r-d"]
    export_reflections(rich, tmp_path / "out.jsonl", history=True, wanted=Filter(status="merged"), namespace="")
    import_reflections(empty, tmp_path / "out.jsonl", namespace="carol", source="friend")
    assert (empty.reflection("r-b").namespace, empty.reflection("r-b").source) == ("carol", "friend")
    assert {version.reflection.namespace for version in empty.reflection_versions("r-b")} == {"carol"}


def test_a_memory_can_be_copied_into_another_namespace_of_its_lab(rich: Database, tmp_path: Path) -> None:
    before = lines(rich, namespace="", history=True)
    export_reflections(rich, tmp_path / "out.jsonl", namespace="", history=True)
    report = import_reflections(rich, tmp_path / "out.jsonl", namespace="carol")
    a, b, c = report.added
    assert (report.recalls, report.links) == (4, 2)
    assert rich.reflection(b).merged_into == c
    assert rich.reflection(c).derived_from == [a]
    assert {(link.source, link.target) for link in rich.links_of(c)} == {(c, a), (c, b)}
    assert [version.reflection.id for version in rich.reflection_versions(a)] == [a] * 4
    assert import_reflections(rich, tmp_path / "out.jsonl", namespace="carol").same == [a, b, c]
    assert lines(rich, namespace="", history=True) == before


def test_a_source_over_its_quota_is_refused_whole(empty: Database, tmp_path: Path) -> None:
    path = written(tmp_path / "web.jsonl", *({**ENTRY, "id": f"r-{n}"} for n in range(3)))
    with pytest.raises(QuotaExceeded, match="'import:web'"):
        import_reflections(empty, path, limit=2)
    assert empty.count_reflections() == 0
    assert len(import_reflections(empty, path, limit=3).added) == 3
    assert len(import_reflections(empty, path, limit=0).same) == 3


def test_a_list_and_an_object_that_holds_one_are_read_too(empty: Database, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([ENTRY], indent=1))
    (tmp_path / "held.json").write_text("\ufeff" + json.dumps({"count": 1, "results": [ENTRY | {"id": "r-2"}]}))
    (tmp_path / "none.jsonl").write_text("\n")
    assert import_reflections(empty, tmp_path / "list.json").added == ["r-1"]
    assert import_reflections(empty, tmp_path / "held.json").added == ["r-2"]
    assert import_reflections(empty, tmp_path / "none.jsonl") == ImportReport()
    (tmp_path / "bad.json").write_text(json.dumps([ENTRY | {"id": "r-3"}, 7]))
    with pytest.raises(BadImport, match=r"bad.json, item 2: .* not an object"):
        import_reflections(empty, tmp_path / "bad.json")
    (tmp_path / "torn.json").write_text('[{"id": "r-4"},\n {"id"')
    with pytest.raises(BadImport, match=r"torn.json, line 2: it is not valid JSON"):
        import_reflections(empty, tmp_path / "torn.json")


def test_a_file_that_cannot_be_read_is_one_line(empty: Database, tmp_path: Path) -> None:
    with pytest.raises(BadImport, match="cannot be read"):
        import_reflections(empty, tmp_path / "nowhere.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(ENTRY).encode() + b"\n{\xfc}")
    with pytest.raises(BadImport, match="line 2: it is not UTF-8"):
        import_reflections(empty, tmp_path / "latin.jsonl")


def test_filters_choose_what_goes_out_and_links_stay_within_it(rich: Database) -> None:
    rows = [json.loads(line) for line in lines(rich, wanted=Filter(tier="rule")).splitlines()]
    assert [row["id"] for row in rows] == ["r-c"]
    assert "links" not in rows[0]


def test_an_export_is_written_whole_or_not_at_all(
    rich: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("what was there")
    load = rich.load_reflections

    def fails(numbers: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(rich, "load_reflections", fails)
    with pytest.raises(KeyboardInterrupt):
        export_reflections(rich, target)
    assert target.read_text() == "what was there"
    assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]
    monkeypatch.setattr(rich, "load_reflections", load)
    export_reflections(rich, target)
    assert target.read_text() == lines(rich)
    for path in (tmp_path, tmp_path / "no" / "where.jsonl"):
        with pytest.raises(MemoryStoreError, match="could not be written"):
            export_reflections(rich, path)
    with pytest.raises(MemoryStoreError, match="stream"):
        export_reflections(rich, io.StringIO(), format="parquet")


WORDS = st.text(max_size=12) | st.sampled_from(["", "r-1", "note", "\ud800", "\x1b[2J", "a\nb", LATER])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
KEYS = [*Reflection.model_fields, "recalls", "links", "versions", "memory", "key", "value", "user_id", "metadata"]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=3), st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_file_holds_is_kept_or_refused_but_never_breaks_the_memory(
    tmp_path: Path, entries: list[dict[str, Any]], complete: bool
) -> None:
    if complete:
        entries = [entry | {"id": f"r-{n}", "kind": "k", "env": "", "task": "", "text": "t"} for n, entry in
                   enumerate(entries)]  # fmt: skip
    path = written(tmp_path / "any.jsonl", *entries)
    with Database(":memory:") as database:
        try:
            report = import_reflections(database, path)
        except BadImport:
            assert database.count_reflections() == 0
            assert lines(database) == ""
            return
        out = lines(database, history=True)
        assert len(report.added) == database.count_reflections()
    path.write_text(out)
    with Database(":memory:") as database:
        import_reflections(database, path)
        assert lines(database, history=True) == out


@given(st.lists(st.tuples(st.text(min_size=1), st.text(), st.lists(st.text(), max_size=2)), max_size=4))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_was_remembered_goes_out_and_comes_in_to_the_byte(
    tmp_path: Path, texts: list[tuple[str, str, list[str]]]
) -> None:
    with Database(":memory:") as database:
        for number, (text, goal, tags) in enumerate(texts):
            item = Reflection(id=f"r-{number}", kind="k", env="", task="", text=text, goal=goal, tags=tags)
            with suppress(InvalidReflection):
                database.put_reflection(cleaned(item))
        out = lines(database)
    (tmp_path / "out.jsonl").write_text(out, encoding="utf-8", newline="")
    with Database(":memory:") as database:
        import_reflections(database, tmp_path / "out.jsonl")
        assert lines(database) == out
