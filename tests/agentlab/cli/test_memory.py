from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.cli.memory import ranges
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Advice, Episode, Evidence, Recall, Reflection

RUNNER = CliRunner()
TEXTS = {
    "r-coins": "Coins are found in the kitchen, behind the wooden door.",
    "r-doors": "The safe door is the one that the note names.",
    "r-books": "Read the cookbook before you cook \x1b[2Janything.",
}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        opened.database.episodes.put(
            Episode(id="ep-one", run="first", env="toy/doors", split="train", seed=1, status="won")
        )
        opened.memory.remember(
            [
                Reflection(
                    id=id,
                    kind="grounded" if id != "r-books" else "written",
                    env="toy/doors",
                    task="toy/doors:train:1",
                    text=text,
                    tags=["place"] if id == "r-coins" else [],
                    advice=[Advice(state="You see a door.", action="open door", visits=2, value=0.5)],
                    evidence=[Evidence(episode="ep-one", steps=[0, 2])],
                    run="first",
                )
                for id, text in TEXTS.items()
            ]
        )
        opened.database.recalls.put(
            [
                Recall(episode="ep-one", reflection="r-coins", rank=0, query="coin", score=1.0, won=True),
                Recall(episode="ep-two", reflection="r-coins", rank=0, query="coin", score=1.0),
            ]
        )
    return folder


def memory(lab: Path, *arguments: str, input: str | None = None) -> Result:
    return RUNNER.invoke(app, ["memory", *arguments, "--lab", str(lab)], input=input)


def shown(lab: Path, *arguments: str) -> str:
    result = memory(lab, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_listing_shows_each_reflection_with_its_use(lab: Path) -> None:
    rows = json.loads(shown(lab, "list", "--json"))
    assert [row["id"] for row in rows] == ["r-books", "r-doors", "r-coins"]
    coins = rows[-1]
    assert (coins["recalled"], coins["ended"], coins["won"]) == (2, 1, 1)
    assert coins["text"] == TEXTS["r-coins"]
    table = shown(lab, "list")
    assert "r-coins" in table
    assert "\x1b" not in table


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--kind", "written"], ["r-books"]),
        (["--tag", "place"], ["r-coins"]),
        (["--env", "toy/doors", "--limit", "1"], ["r-books"]),
        (["--task", "toy/doors:train:2"], []),
        (["--status", "forgotten"], []),
        (["--pinned"], []),
        (["--run", "first"], ["r-books", "r-doors", "r-coins"]),
    ],
)
def test_a_listing_can_be_narrowed(lab: Path, arguments: list[str], ids: list[str]) -> None:
    assert [row["id"] for row in json.loads(shown(lab, "list", "--json", *arguments))] == ids


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--kind", "written"], {"r-books"}),
        (["--tag", "place"], {"r-coins"}),
        (["--task", "toy/doors:train:2"], set()),
        (["--status", "forgotten"], {"r-old"}),
        (["--status", "all", "--after", "2020-01-02"], {"r-old", *TEXTS}),
        (["--after", "2d"], set(TEXTS)),
        (["--before", "2d", "--status", "all"], {"r-old"}),
        (["--before", "2020-01-01", "--status", "all"], set()),
        (["--source", "somebody", "--status", "all"], {"r-old"}),
        (["--tier", "rule", "--status", "all"], {"r-old"}),
        (["--namespace", "other"], {"r-other"}),
    ],
)
def test_a_search_can_be_narrowed_and_so_can_a_listing(lab: Path, arguments: list[str], ids: set[str]) -> None:
    with Lab.open(lab) as opened:
        old = Reflection(
            id="r-old", kind="note", env="toy/doors", task="toy/doors:train:1", text="An old rule.", tier="rule",
            source="somebody", status="forgotten", created_at="2020-01-02T12:00:00+00:00",
        )  # fmt: skip
        opened.memory.remember([old])
        opened.database.reflections.put(
            old.model_copy(update={"id": "r-other", "namespace": "other", "status": "active"})
        )
    found = json.loads(shown(lab, "search", "coins and doors", "--json", *arguments))
    assert {hit["id"] for hit in found} == ids
    if "--status" in arguments or "--namespace" in arguments:
        assert {row["id"] for row in json.loads(shown(lab, "list", "--json", *arguments))} == ids


def test_another_namespace_is_as_if_it_were_empty(lab: Path, tmp_path: Path) -> None:
    elsewhere = ["--namespace", "other"]
    assert shown(lab, "search", "coins", *elsewhere) == "Nothing found.\n"
    assert "agentlab run" in shown(lab, "list", *elsewhere)
    assert shown(lab, "export", *elsewhere) == ""
    for command in (["show", "r-coins"], ["pin", "r-coins"], ["edit", "r-coins", "mine"]):
        result = memory(lab, *command, *elsewhere)
        assert result.exit_code == 2
        assert "No reflection has the id 'r-coins'" in result.stderr
    config = (lab / "lab.toml").read_text()
    (lab / "lab.toml").write_text(config.replace('namespace = ""', 'namespace = "other"'))
    assert shown(lab, "search", "coins") == "Nothing found.\n"
    assert "r-coins" in shown(lab, "search", "coins", "--namespace", "")


def test_an_empty_listing_says_why_it_is_empty(lab: Path, tmp_path: Path) -> None:
    assert "Nothing fits" in shown(lab, "list", "--pinned")
    with Lab.open(tmp_path / "new", create=True, config=LabConfig(embedder="hashing")):
        pass
    assert "agentlab run" in shown(tmp_path / "new", "list")


def test_search_finds_by_words_and_explains_score_source_and_use(lab: Path) -> None:
    text = shown(lab, "search", "where are coins found", "--explain")
    assert text.index("r-coins") < text.index("r-doors")
    for part in (
        "relevance",
        "rrf",
        "bm25",
        "recency",
        "importance",
        "ep-one (steps 0, 2)",
        "recalled 2×, won 1 of 1 ended",
    ):
        assert part in text
    assert "never recalled" in text


def test_search_as_json_has_every_part_of_the_score(lab: Path) -> None:
    first = json.loads(shown(lab, "search", "where are coins found", "-k", "1", "--json"))
    assert [hit["id"] for hit in first] == ["r-coins"]
    assert {"relevance", "recency", "importance"} <= set(first[0]["parts"])
    assert first[0]["episodes"] == ["ep-one"]
    assert (first[0]["recalled"], first[0]["won"]) == (2, 1)


def test_a_plain_search_is_a_table_and_records_no_recall(lab: Path) -> None:
    assert "r-doors" in shown(lab, "search", "which door is safe")
    assert shown(lab, "search", "x", "--kind", "exemplar", "--explain") == "Nothing found.\n"
    with Lab.open(lab, write=False) as opened:
        assert opened.database.recalls.counts(["r-doors"])["r-doors"].n == 0


def test_one_reflection_is_shown_whole(lab: Path) -> None:
    text = shown(lab, "show", "r-coi")
    for part in (
        TEXTS["r-coins"],
        "ep-one (steps 0, 2)",
        "open door",
        "You see a door.",
        "not ended",
        "ep-two",
        "place",
    ):
        assert part in text
    data = json.loads(shown(lab, "show", "r-coins", "--json"))
    assert data["reflection"]["id"] == "r-coins"
    assert len(data["recalls"]) == 2
    assert "Never recalled." in shown(lab, "show", "r-doors")


def test_pin_forget_and_restore_change_it_and_say_so(lab: Path) -> None:
    assert shown(lab, "pin", "r-coi") == "Pinned r-coins.\n"
    assert [row["id"] for row in json.loads(shown(lab, "list", "--pinned", "--json"))] == ["r-coins"]
    assert shown(lab, "unpin", "r-coins") == "Unpinned r-coins.\n"
    assert shown(lab, "forget", "r-coins") == "Forgot r-coins.\n"
    assert "r-coins" not in shown(lab, "search", "where are coins found")
    assert shown(lab, "restore", "r-coins") == "Restored r-coins.\n"
    assert "r-coins" in shown(lab, "search", "where are coins found")


def test_edit_takes_the_text_from_the_command_line_from_stdin_or_from_an_editor(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text() -> str:
        return str(json.loads(shown(lab, "show", "r-doors", "--json"))["reflection"]["text"])

    assert shown(lab, "edit", "r-doors", "Trust the note.") == "Changed r-doors.\n"
    assert text() == "Trust the note."
    assert memory(lab, "edit", "r-doors", "-", input="Read the note first.\n").stdout == "Changed r-doors.\n"
    assert text() == "Read the note first."
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/first/always/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    assert shown(lab, "edit", "r-doors") == "Changed r-doors.\n"
    assert text() == "Read the note always."
    assert shown(lab, "edit", "r-doors") == "Nothing changed.\n"
    assert len(json.loads(shown(lab, "show", "r-doors", "--json"))["versions"]) == 4


@pytest.mark.parametrize(
    ("editor", "part"),
    [
        ("#!/bin/sh\nprintf 'caf\\351' > \"$1\"\n", "UTF-8"),
        ('#!/bin/sh\nrm "$1"\n', "UTF-8"),
        ('#!/bin/sh\nprintf lost > "$1"\nexit 3\n', "exit code 3"),
        (None, "cannot be started"),
        ("'", "set EDITOR"),
    ],
    ids=["latin-1", "deleted", "failed", "missing", "unreadable"],
)
def test_an_editor_that_fails_is_one_line_and_changes_nothing(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editor: str | None, part: str
) -> None:
    program = tmp_path / "editor"
    if editor is not None and editor.startswith("#!"):
        program.write_text(editor)
        program.chmod(0o755)
    monkeypatch.setenv("VISUAL", "'" if editor == "'" else str(program))
    result = memory(lab, "edit", "r-doors")
    assert result.exit_code == 2 and part in result.stderr and result.stderr.count("\n") == 1
    assert len(json.loads(shown(lab, "show", "r-doors", "--json"))["versions"]) == 1


def test_what_was_written_over_a_text_that_changed_meanwhile_is_printed_and_not_put_in_its_place(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, command = tmp_path / "editor", "from agentlab.cli import main; main()"
    other = shlex.join([sys.executable, "-c", command, "memory", "edit", "r-doors", "Trust it.", "--lab", str(lab)])
    program.write_text(f'#!/bin/sh\n{other}\necho "Read it at night." > "$1"\n')
    program.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(program))
    result = memory(lab, "edit", "r-doors")
    assert result.exit_code == 2 and "Read it at night." in result.stdout
    assert json.loads(shown(lab, "show", "r-doors", "--json"))["reflection"]["text"] == "Trust it."


def test_what_is_typed_is_utf_8_or_one_line(lab: Path) -> None:
    result = RUNNER.invoke(app, ["memory", "edit", "r-doors", "-", "--lab", str(lab)], input=b"caf\xe9")
    assert result.exit_code == 2 and "UTF-8" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "part"), [("\x1b[2J", "is empty"), ("x" * 4001, "shorten it")])
def test_an_edit_that_would_not_stand_there_so_is_one_line(lab: Path, text: str, part: str) -> None:
    result = memory(lab, "edit", "r-doors", text)
    assert result.exit_code == 2 and part in result.stderr and result.stderr.count("\n") == 1
    assert len(json.loads(shown(lab, "show", "r-doors", "--json"))["versions"]) == 1


def test_a_pinned_reflection_is_not_forgotten_until_it_is_unpinned(lab: Path) -> None:
    shown(lab, "pin", "r-doors")
    result = memory(lab, "forget", "r-doors")
    assert result.exit_code == 2 and "unpin" in result.stderr and result.stderr.count("\n") == 1
    assert json.loads(shown(lab, "show", "r-doors", "--json"))["reflection"]["status"] == "active"
    shown(lab, "unpin", "r-doors")
    assert shown(lab, "forget", "r-doors") == "Forgot r-doors.\n"


def test_export_writes_json_lines_to_a_file_or_to_stdout(lab: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    result = memory(lab, "export", str(target))
    assert "3 reflections" in result.stderr
    lines = target.read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == set(TEXTS)
    assert shown(lab, "export").splitlines() == lines


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["show", "r-coinz"], "did you mean 'r-coins'?"),
        (["forget", "r-"], "more than one"),
        (["list", "--env", "toy/dors"], "did you mean `toy/doors`?"),
        (["list", "--after", "soon"], "'soon' is no moment; write a date (2026-11-01"),
        (["search", "coin", "--before", "1e9999d"], "is no moment"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(lab: Path, arguments: list[str], part: str) -> None:
    result = memory(lab, *arguments)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_environment_of_ones_own_is_known_once_the_lab_has_episodes_of_it(lab: Path) -> None:
    with Lab.open(lab) as opened:
        opened.database.episodes.put(Episode(id="ep-own", run="r", env="my/game", split="train", seed=0))
    assert json.loads(shown(lab, "list", "--env", "my/game", "--json")) == []


def test_a_folder_that_is_no_lab_is_refused(tmp_path: Path) -> None:
    result = memory(tmp_path / "nowhere", "list")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_steps_are_drawn_together() -> None:
    assert ranges([3, 0, 1, 2, 7, 7]) == "0–3, 7"
    assert ranges([5]) == "5"


def test_an_index_that_was_deleted_is_built_again_and_the_command_says_so(lab: Path) -> None:
    with Lab.open(lab) as opened:  # recalling makes the index, closing saves it
        assert opened.memory.search("coins")
    assert memory(lab, "search", "coins").stderr == ""
    for file in lab.glob("*.faiss*"):
        file.unlink()
    result = memory(lab, "search", "where are coins found", "--json")
    assert json.loads(result.stdout)[0]["id"] == "r-coins"
    assert result.stderr.count("\n") == 1
    assert "index" in result.stderr
