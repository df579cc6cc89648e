"""`agentlab memory` changes many at once, takes them back in one go, deletes for good, and lists by measured uplift."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from memory.records import Recall, Reflection

RUNNER = CliRunner()
SECRET = "The silver key opens the cellar behind the oven."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mend") / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False) as lab:
        lab.memory.remember(
            [
                Reflection(id=f"r-{n}", kind="grounded" if n < 4 else "written", env="toy/doors",
                           task=f"toy/doors:train:{n}", text=f"Door {n} is safe, and so is its neighbour.")
                for n in range(6)
            ]
            + [Reflection(id="r-key", kind="grounded", env="twx/coin", task="twx/coin:train:1", text=SECRET)]
        )  # fmt: skip
        lab.memory.pin("r-3")
        lab.database.recalls.put(
            [
                Recall(episode=f"e-{n}-{id}", reflection=id, rank=0, query="q", score=1, env="toy/doors",
                       held_out=n % 2 == 0, propensity=0.5, won=(n % 2 == 0) == (id == "r-1"))
                for id in ("r-1", "r-2") for n in range(40)
            ]
        )  # fmt: skip
    return folder


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "lab"))


def memory(lab: Path, *arguments: str, input: str | None = None) -> Result:
    return RUNNER.invoke(app, ["memory", *arguments, "--lab", str(lab)], input=input)


def shown(lab: Path, *arguments: str) -> str:
    result = memory(lab, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def with_status(lab: Path, status: str) -> set[str]:
    return {row["id"] for row in json.loads(shown(lab, "list", "--status", status, "--json"))}


def test_a_list_by_harm_shows_uplift_interval_and_n(lab: Path) -> None:
    rows = json.loads(shown(lab, "list", "--sort", "harm", "--json"))
    assert [row["id"] for row in rows][:2] == ["r-1", "r-2"] and rows[0]["uplift"]["high"] < 0
    assert (rows[0]["uplift"]["served"], rows[0]["uplift"]["held_out"], rows[2]["uplift"]) == (20, 20, None)
    assert next(row["id"] for row in json.loads(shown(lab, "list", "--sort", "uplift", "--json"))) == "r-2"
    table = shown(lab, "list", "--sort", "harm")
    assert f"{rows[0]['uplift']['mean']:+.2f} [{rows[0]['uplift']['low']:+.2f}" in table and "20+20" in table


def test_a_list_that_is_cut_says_how_many_there_are_and_all_are_there_for_the_asking(lab: Path) -> None:
    result = memory(lab, "list", "--json", "--limit", "2")
    assert len(json.loads(result.stdout)) == 2 and "2 of 7" in result.stderr
    result = memory(lab, "list", "--json", "--limit", "2", "--all")
    assert len(json.loads(result.stdout)) == 7 and not result.stderr


def test_filters_change_nothing_without_a_yes_and_a_dry_run_lists(lab: Path) -> None:
    filters = ("--env", "toy/doors", "--kind", "grounded")
    for arguments in ((), filters, ("r-1", *filters)):
        result = memory(lab, "forget", *arguments)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
    text = shown(lab, "forget", *filters, "--dry-run")
    assert all(f"r-{n}" in text for n in range(4)) and "r-4" not in text and "4 reflections fit" in text
    assert with_status(lab, "forgotten") == set()


def test_all_that_fit_are_forgotten_in_one_operation_and_one_undo_brings_them_back(lab: Path) -> None:
    text = shown(lab, "forget", "--env", "toy/doors", "--kind", "grounded", "--yes", "--reason", "old  rules")
    assert "3 reflections" in text and "1 pinned" in text
    assert with_status(lab, "forgotten") == {"r-0", "r-1", "r-2"}
    (operation,) = re.findall(r"undo (op-[0-9a-f]+)", text)
    assert json.loads(shown(lab, "history", "--json"))[0]["detail"] == "3 reflections: old rules"
    shown(lab, "undo", operation)
    assert with_status(lab, "forgotten") == set()


@pytest.mark.parametrize(("verb", "status"), [("bench", "benched"), ("forget", "forgotten")], ids=["bench", "forget"])
def test_some_are_named_and_restored(lab: Path, verb: str, status: str) -> None:
    shown(lab, verb, "r-0", "r-4")
    assert with_status(lab, status) == {"r-0", "r-4"}
    shown(lab, "restore", "--status", status, "--yes")
    assert with_status(lab, status) == set()
    assert memory(lab, verb, "r-3").exit_code == 2 and memory(lab, verb, "r-0", "r-none").exit_code == 2
    assert with_status(lab, status) == set()


def test_pins_are_set_and_taken_off_by_a_filter(lab: Path) -> None:
    def pinned() -> set[str]:
        return {row["id"] for row in json.loads(shown(lab, "list", "--pinned", "--json"))}

    shown(lab, "pin", "--kind", "written", "--yes")
    assert pinned() == {"r-3", "r-4", "r-5"}
    shown(lab, "unpin", "--env", "toy/doors", "--yes")
    assert pinned() == set()


def test_a_whole_consolidation_is_undone_in_one_go_and_done_again(lab: Path) -> None:
    with Lab.open(lab, progress=False) as opened:
        again = [f"Open door {n} first, then look behind it." for n in (1, 2)]
        opened.memory.remember(
            [
                Reflection(
                    id=f"r-{n}-{k}", kind="note", env="toy/doors", task=f"toy/doors:train:{k}", text=text + "!" * k
                )
                for n, text in enumerate(again)
                for k in range(3)
            ]
        )
    before = with_status(lab, "active")
    text = shown(lab, "consolidate", "--only", "merge")
    after = with_status(lab, "active")
    (batch,) = re.findall(r"undo (ops-[0-9a-f]+)", text)
    assert len(after) < len(before) and "consolidate" in shown(lab, "history")
    said = shown(lab, "undo", batch)
    assert with_status(lab, "active") == before
    (undone,) = re.findall(r"This is (ops-[0-9a-f]+)", said)
    assert memory(lab, "undo", batch).exit_code == 2
    shown(lab, "undo", undone)
    assert with_status(lab, "active") == after
    assert json.loads(shown(lab, "history", batch, "--json"))


def test_a_purge_wants_the_name_typed_and_refuses_what_is_pinned(lab: Path) -> None:
    assert "cannot be undone" in shown(lab, "purge", "r-key", "--dry-run")
    for arguments in (("r-key", "--name", "r-ke"), ("--env", "toy/doors", "--name", "toy/doors"), (), ("r-1", "r-2"),
                      ("--kind", "written")):  # fmt: skip
        result = memory(lab, "purge", *arguments)
        assert result.exit_code == 2, arguments
    assert memory(lab, "purge", "r-key", input="no\n").exit_code == 2
    assert len(json.loads(shown(lab, "list", "--all", "--json"))) == 7


def test_a_purge_by_environment_leaves_the_text_in_no_file(lab: Path) -> None:
    with sqlite3.connect(lab / "checkpoints.db") as file:
        file.execute("CREATE TABLE checkpoints (thread_id TEXT, checkpoint BLOB)")
        file.execute("CREATE TABLE writes (thread_id TEXT, value BLOB)")
        file.execute("INSERT INTO checkpoints VALUES ('e-flying', ?), ('e-other', X'00')", (SECRET.encode(),))
    file.close()
    (lab / "notes.txt").write_text(SECRET)
    result = memory(lab, "purge", "--env", "twx/coin", "--name", "twx/coin")
    assert result.exit_code == 0, result.stderr
    assert "notes.txt" in result.stderr and "1 in flight" in result.stderr
    holding = {path.name for path in lab.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}
    assert holding == {"notes.txt"}
    assert next(row["name"] for row in json.loads(shown(lab, "history", "--json"))) == "purged"
    undo = memory(lab, "undo", json.loads(shown(lab, "history", "--json"))[0]["id"])
    assert undo.exit_code == 2 and "for good" in undo.stderr
    assert "r-1" in shown(lab, "search", "door 1 is safe")


def test_the_credit_of_others_is_the_same_after_a_purge(lab: Path) -> None:
    before = json.loads(shown(lab, "list", "--sort", "harm", "--json"))
    shown(lab, "purge", "r-1", "--name", "r-1")
    after = {row["id"]: row for row in json.loads(shown(lab, "list", "--json"))}
    assert "r-1" not in after
    assert all(after[row["id"]]["uplift"] == row["uplift"] for row in before if row["id"] != "r-1")
    with Lab.open(lab, write=False, progress=False) as opened:
        rows = opened.database.connection.execute("SELECT count(*) FROM recall_totals WHERE reflection = 'r-1'")
        assert rows == [(0,)]


def test_what_came_from_outside_is_shown_on_probation_until_a_person_vouches(lab: Path) -> None:
    with Lab.open(lab) as opened:
        opened.memory.remember(
            [
                Reflection(
                    id=f"theirs-{n}", kind="note", env="toy/doors", task="", text=f"Look {n}.", source="import:x"
                )
                for n in range(2)
            ]
        )
    assert shown(lab, "list", "--source", "import:x").count("on probation") == 2
    assert {row["id"] for row in json.loads(shown(lab, "list", "--on-probation", "--json"))} == {"theirs-0", "theirs-1"}
    assert "on probation" in shown(lab, "show", "theirs-0") and "on probation" not in shown(lab, "show", "r-0")
    text = shown(lab, "vouch", "--source", "import:x", "--yes")
    assert "2 reflections" in text and "on probation" not in shown(lab, "list", "--source", "import:x")
    (operation,) = re.findall(r"undo (op-[0-9a-f]+)", text)
    shown(lab, "undo", operation)
    rows = json.loads(shown(lab, "list", "--source", "import:x", "--json"))
    assert [row["on_probation"] for row in rows] == [True, True]
    # Of the lab's own there is nothing to vouch for.
    assert memory(lab, "vouch", "--env", "toy/doors", "--kind", "grounded", "--yes").exit_code in (0, 2)
    assert not any(row["on_probation"] for row in json.loads(shown(lab, "list", "--kind", "grounded", "--json")))
