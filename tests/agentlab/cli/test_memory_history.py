from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.cli.doctor import health
from agentlab.lab import Lab
from agentlab.workspace import asking, folding
from agentlab.workspace.config import LabConfig
from agentlab.workspace.requests import Mend, payload_of, verb_of
from memory import Database
from memory.records import Advice, Evidence, Link, Recall, Reflection

RUNNER = CliRunner()
TEXTS = {
    "r-coins": "Coins are found in the kitchen.",
    "r-doors": "The safe door is the one that the \x1b[2Jnote names.",
}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.memory.remember(
            [
                Reflection(
                    id=id,
                    kind="grounded" if id == "r-coins" else "written",
                    env="toy/doors",
                    task="toy/doors:train:1",
                    text=text,
                    tags=["place"] if id == "r-coins" else [],
                    evidence=[Evidence(episode="ep-one", steps=[0, 2])],
                    run="first",
                )
                for id, text in TEXTS.items()
            ]
        )
        opened.database.recalls.put(
            [Recall(episode="ep-one", reflection="r-coins", rank=0, query="c", score=1, won=True)]
        )
    return folder


def memory(lab: Path, *arguments: str, input: str | None = None) -> Result:
    return RUNNER.invoke(app, ["memory", *arguments, "--lab", str(lab)], input=input)


def shown(lab: Path, *arguments: str) -> str:
    result = memory(lab, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def newest(lab: Path) -> str:
    return str(json.loads(shown(lab, "history", "--json"))[0]["id"])


def test_history_lists_operations_and_undo_takes_one_back(lab: Path) -> None:
    assert "memory diff" in shown(lab, "history")
    shown(lab, "edit", "r-coins", "Coins are found in the cellar.")
    shown(lab, "pin", "r-doors")
    rows = json.loads(shown(lab, "history", "--json"))
    assert [(row["name"], row["detail"], row["changed"]) for row in rows] == [
        ("pinned", "r-doors", 1), ("edited", "r-coins", 1),
    ]  # fmt: skip
    edit = rows[1]["id"]
    table = shown(lab, "history")
    assert edit in table
    assert table.index("pinned") < table.index("edited")
    said = shown(lab, "undo", edit[:10])
    assert said.startswith(f"Undid {edit} (edited): 1 reflection as before. This is {newest(lab)}.")
    assert json.loads(shown(lab, "show", "r-coins", "--json"))["reflection"]["text"] == TEXTS["r-coins"]
    assert [row["name"] for row in json.loads(shown(lab, "history", "--limit", "1", "--json"))] == ["undo"]
    again = memory(lab, "undo", edit)
    assert again.exit_code == 2
    assert f"`agentlab memory undo {newest(lab)}` does it again" in again.stderr


def test_history_of_one_operation_shows_what_it_did(lab: Path) -> None:
    shown(lab, "edit", "r-coins", "Coins are found in the cellar.")
    text = shown(lab, "history", newest(lab))
    for part in ("edited", "r-coins", "-Coins are found in the kitchen.", "+Coins are found in the cellar."):
        assert part in text
    data = json.loads(shown(lab, "history", newest(lab), "--json"))
    assert data["name"] == "edited"
    assert data["changes"][0]["diff"][1:] == ["-Coins are found in the kitchen.", "+Coins are found in the cellar."]


def test_links_of_an_operation_are_shown_and_undone_with_it(lab: Path) -> None:
    def link(weight: float) -> Link:
        return Link(source="r-doors", target="r-coins", kind="similar", weight=weight)

    with Lab.open(lab) as opened:
        opened.database.links.put([link(0.25)])
        with opened.database.operations.record("links", "r-doors"):
            opened.database.links.put([link(0.5), Link(source="r-coins", target="r-doors", kind="like")])
    text = shown(lab, "history", newest(lab))
    assert "~ r-doors → r-coins  similar, weight 0.25 → 0.50" in text
    assert "+ r-coins → r-doors  like, weight none → 1.00" in text
    assert "… and 1 more links" in shown(lab, "history", newest(lab), "--limit", "1")
    data = json.loads(shown(lab, "history", newest(lab), "--json"))
    assert (data["links"], data["link_changes"][0]["before"]) == (2, None)
    assert "(links): 2 links as before." in shown(lab, "undo", newest(lab))


def test_history_of_one_reflection_shows_each_version(lab: Path) -> None:
    for verb in ("pin", "unpin", "forget"):
        shown(lab, verb, "r-doors")
    text = shown(lab, "history", "r-doo")
    assert re.search(r"1\. .* remembered\n    The safe door", text)
    assert re.search(r"2\. .* pinned  op-\w+\n    pinned: no → yes", text)
    assert "status: active → forgotten" in text
    assert "\x1b" not in text
    versions = json.loads(shown(lab, "history", "r-doors", "--json"))
    assert [version["change"] for version in versions] == ["remembered", "pinned", "unpinned", "forgotten"]
    assert [version["operation"] for version in versions][::3] == [None, newest(lab)]


def test_diff_shows_what_was_added_removed_and_changed(lab: Path) -> None:
    shown(lab, "edit", "r-coins", "Coins are found in the cellar.")
    shown(lab, "forget", "r-doors")
    everything = shown(lab, "diff", "start")
    assert "2 added" in everything
    with Lab.open(lab) as opened:
        opened.database.connection.execute("UPDATE reflection_versions SET at = '2026-01-01' WHERE version = 1")
    text = shown(lab, "diff", "2026-02-01", "now")
    for part in ("1 removed, 1 changed", "- r-doors", "~ r-coins", "-Coins are found in the kitchen."):
        assert part in text
    assert "and 1 more" in shown(lab, "diff", "2026-02-01", "--limit", "1")
    data = json.loads(shown(lab, "diff", "2026-02-01", "--json"))
    assert [change["id"] for change in data["removed"]] == ["r-doors"]
    assert data["removed"][0]["fields"] == {"status": ["active", "forgotten"]}
    assert data["added"] == data["returned"] == []
    assert "nothing changed" in shown(lab, "diff", "now")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["undo", "op-nothing"], "agentlab memory history"),
        (["history", "r-coinz"], "did you mean 'r-coins'?"),
        (["diff", "yesterday"], "write a date"),
        (["diff", "now", "3d"], "earlier time first"),
        (["import", "nowhere.jsonl"], "cannot be read"),
        (["export", "no/such/folder/out.jsonl"], "could not be written"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(lab: Path, arguments: list[str], part: str) -> None:
    result = memory(lab, *arguments)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_what_is_exported_comes_into_another_lab_without_its_standing(lab: Path, tmp_path: Path, name: str) -> None:
    shown(lab, "pin", "r-doors")
    target = tmp_path / name
    assert "2 reflections written" in memory(lab, "export", str(target), "--with-history").stderr
    other = tmp_path / "other"
    with Lab.open(other, create=True, config=LabConfig(embedder="hashing")):
        pass
    assert "2 added" in shown(other, "import", str(target))
    rows, before = (json.loads(shown(where, "list", "--json")) for where in (other, lab))
    assert {row["text"] for row in rows} == {row["text"] for row in before}
    assert [(row["pinned"], row["won"], row["source"]) for row in rows] == [(False, 0, "import:out")] * 2
    assert "2 already there" in shown(other, "import", str(target))
    shown(other, "edit", rows[0]["id"], "Changed here.")
    assert "1 kept as they are" in shown(other, "import", str(target))
    assert json.loads(shown(other, "import", str(target), "--replace", "--json"))["replaced"] == [rows[0]["id"]]
    assert "Undid" in shown(other, "undo", newest(other))


def test_an_entry_that_cannot_be_taken_is_told_and_refuses_the_file_only_if_asked(lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "mem0.json"
    file.write_text(json.dumps([{"id": 1, "memory": "Fact."}, {"id": 2, "memory": None}]))
    refused = memory(lab, "import", str(file), "--strict")
    assert refused.exit_code == 2
    assert "item 2" in refused.stderr and refused.stderr.count("\n") == 1
    text = shown(lab, "import", str(file))
    assert "1 added; 1 left out" in text
    assert "item 2: it has no text" in text


def test_an_import_tells_what_it_cut(lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "mem0.json"
    file.write_text(json.dumps([{"id": 1, "memory": "Fact."}, {"id": 2, "memory": "word " * 1000}]))
    text = shown(lab, "import", str(file))
    assert "2 added; 1 of these cut to 4,000 characters" in text
    (cut,) = [row["id"] for row in json.loads(shown(lab, "list", "--kind", "note", "--json")) if len(row["text"]) > 9]
    assert f"cut  {cut}" in text


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--kind", "written"], ["r-doors"]),
        (["--tag", "place"], ["r-coins"]),
        (["--status", "benched"], []),
        (["--env", "toy/doors", "--run", "first"], ["r-coins", "r-doors"]),
        (["--source", "web"], []),
        (["--namespace", "bob"], []),
    ],
)
def test_an_export_can_be_narrowed(lab: Path, arguments: list[str], ids: list[str]) -> None:
    assert [json.loads(line)["id"] for line in shown(lab, "export", *arguments).splitlines()] == ids


def test_memories_of_other_tools_come_in_up_to_the_quota(lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "mem0.json"
    file.write_text(json.dumps({"results": [{"id": n, "memory": f"Fact {n}.", "user_id": "ann"} for n in range(3)]}))
    assert "The file holds nothing" in shown(lab, "import", str(_empty(tmp_path)))
    refused = memory(lab, "import", str(file), "--quota", "2")
    assert refused.exit_code == 2
    assert "source_quota in lab.toml" in refused.stderr
    assert "3 added" in shown(lab, "import", str(file), "--keep-namespaces", "--source", "mem0", "--format", "mem0")
    rows = json.loads(shown(lab, "list", "--kind", "note", "--namespace", "ann", "--json"))
    assert {(row["namespace"], row["source"]) for row in rows} == {("ann", "mem0")}


def _empty(folder: Path) -> Path:
    (folder / "empty.jsonl").write_text("")
    return folder / "empty.jsonl"


def test_the_quota_of_a_lab_is_in_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    file = tmp_path / "web.jsonl"
    file.write_text('{"id": "a", "kind": "note", "env": "", "task": "", "text": "x"}\n')
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing", source_quota=0)) as opened:
        assert opened.memory.quota == 0
    assert memory(folder, "import", str(file)).exit_code == 2


def test_changes_of_lists_are_told_by_their_length(lab: Path) -> None:
    with Lab.open(lab) as opened, opened.database.operations.record("voted", "r-coins"):
        old = opened.database.reflections.get("r-coins")
        advice = [Advice(state="A door.", action="open door", visits=1)]
        opened.database.reflections.put(old.model_copy(update={"advice": advice, "tags": ["place", "new"], "votes": 2}))
    text = shown(lab, "history", newest(lab))
    for line in ("advice: none → 1 record", "tags: place → place, new", "votes: 0 → 2"):
        assert line in text


def test_each_command_keeps_to_its_namespace_unless_all_are_wanted(lab: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    shown(lab, "export", str(target))
    assert "2 added" in shown(lab, "import", str(target), "--namespace", "bob")
    operation = newest_of(lab, "bob")
    assert json.loads(shown(lab, "history", "--json")) == []
    assert [row["id"] for row in json.loads(shown(lab, "history", "--all-namespaces", "--json"))] == [operation]
    assert "2 added" in shown(lab, "diff", "start", "--namespace", "bob")
    assert "4 added" in shown(lab, "diff", "start", "--all-namespaces")
    assert len(shown(lab, "export").splitlines()) == 2
    assert len(shown(lab, "export", "--all-namespaces").splitlines()) == 4
    refused = memory(lab, "undo", operation)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert operation in shown(lab, "undo", operation, "--namespace", "bob")


def newest_of(lab: Path, namespace: str) -> str:
    return str(json.loads(shown(lab, "history", "--namespace", namespace, "--json"))[0]["id"])


def test_an_export_writes_over_nothing_and_into_no_lab(lab: Path, tmp_path: Path) -> None:
    target = tmp_path / "notes.jsonl"
    target.write_text("mine")
    before = {file.name: file.read_bytes() for file in lab.iterdir() if file.suffix in (".db", ".toml")}
    for refused in (target, lab / "lab.db", lab / "lab.toml", lab / "new.jsonl", tmp_path, tmp_path / "x.zip", ""):
        result = memory(lab, "export", str(refused))
        assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1, refused
    assert {name: (lab / name).read_bytes() for name in before} == before
    assert target.read_text() == "mine" and not (tmp_path / "x.zip").exists()
    shown(lab, "export", str(target), "--force")
    assert len(target.read_text().splitlines()) == len(TEXTS)
    assert len(shown(lab, "export", "-").splitlines()) == len(TEXTS) and not Path("-").exists()


@pytest.mark.parametrize("text", ["", "  ", "x" * 4001])
def test_a_text_that_would_not_stand_there_as_it_was_typed_is_refused(lab: Path, text: str) -> None:
    result = memory(lab, "edit", "r-coins", text)
    assert result.exit_code == 2
    assert TEXTS["r-coins"] in shown(lab, "show", "r-coins")


@pytest.fixture
def slow_writer(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab, open for writing, that looks into its inbox only when it is closed; nobody waits for it."""
    monkeypatch.setattr(folding, "APART", 1000.0)
    monkeypatch.setattr(asking, "PATIENCE", 0.0)
    with Lab.open(lab, progress=False) as writing:
        writing.database.settings.put("opened", 1)
        yield writing


def test_a_change_that_the_writer_has_not_made_yet_is_noted_and_made_before_it_ends(
    lab: Path, slow_writer: Lab
) -> None:
    asked = [("pin", "r-coins"), ("edit", "r-coins", "Coins lie about."), ("undo", "op-x")]
    said = [shown(lab, *words) for words in asked]
    for number, line in enumerate(said, 1):
        assert line.startswith(f"Noted as {number}: process ") and line.count("\n") == 1
    assert json.loads(shown(lab, "history", "--json")) == []
    assert "small change" not in memory(lab, "history").stderr, "somebody is there to make it"
    slow_writer.close()
    rows = json.loads(shown(lab, "history", "--json"))
    assert [(row["name"], row["asked_by"]) for row in rows] == [("edited", "cli"), ("pinned", "cli")]
    told = memory(lab, "history")
    assert re.search(r"What cli asked for at \S+ was not done: No operation has the id 'op-x'", told.stderr)
    assert told.stderr.count("\n") == 1 and re.search(r" by .*\n.*\n.* cli ", told.stdout)
    assert re.search(r"by +cli", shown(lab, "history", rows[0]["id"]))


def test_changes_that_wait_though_nobody_writes_are_told_of_and_made_by_the_next_one(lab: Path) -> None:
    with Database(lab / "lab.db") as database:
        for id in ("r-coins", "r-none"):
            request = Mend(verb="pin", ids=[id], namespace="")
            database.inbox.put("cli", verb_of(request), payload_of(request))
    result = memory(lab, "history")
    assert result.exit_code == 0 and "2 small changes wait since" in result.stderr and result.stderr.count("\n") == 1
    (finding,) = [one for one in health(lab) if one.check == "inbox"]
    assert finding.verdict == "warning" and "2 small changes wait" in finding.detail and "memory pin" in finding.remedy
    shown(lab, "unpin", "r-coins")
    rows = json.loads(shown(lab, "history", "--json"))
    assert [row["name"] for row in rows] == ["unpinned", "pinned"], "what was asked for first comes first"
    assert "small change" not in memory(lab, "history").stderr
    assert "inbox" not in [one.check for one in health(lab)]
