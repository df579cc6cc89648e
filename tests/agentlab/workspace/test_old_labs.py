"""Labs that earlier versions made open, and answer as they did then; `tests/data/labs/make.py` says what is in them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.workspace.config import LabConfig
from memory.reflection_memory import ReflectionMemory
from trainers.data.records import Regularised, read
from trainers.lineage import Lineage

DATA = Path(__file__).parents[2] / "data" / "labs"
# What a clock measures.
CLOCKS = {"seconds", "hours", "tokens_per_second", "ended_at", "updated_at", "created_at"}
# What is worked out in another way since version 7.
SINCE_7 = {"uplift", "bonus", "prompt", "harmful", "repeats", "lost", "database_bytes", "bytes"}
# The size of the file: tables and indexes were added.
SINCE_9 = {"database_bytes", "bytes"}
# What has another name now.
RENAMED = {
    "face": "channel",
    "withheld": "held_out",
    "withheld_won": "held_out_won",
    "withholding": "holding_out",
    "held": "kl_episodes",
    "hold": "kl",
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By the version of its database a folder with a lab, its model and its answers. Do not change it: copy it."""
    found = {}
    for version in (7, 9):
        folder = found[version] = tmp_path_factory.mktemp(f"version-{version}")
        with tarfile.open(DATA / f"version-{version}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        settings = folder / "lab" / "lab.toml"
        settings.write_text(settings.read_text().replace("MODEL", str(folder / "model")))
    return found


@pytest.fixture(params=[7, 9])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def lab(packed: dict[int, Path], version: int, tmp_path: Path) -> Path:
    """A copy of an old lab."""
    return Path(shutil.copytree(packed[version] / "lab", tmp_path / "lab"))


@pytest.fixture
def answers(packed: dict[int, Path], version: int) -> list[tuple[list[str], Any]]:
    """Commands on this lab, and what they answered then."""
    stored = json.loads((packed[version] / "answers.json").read_text())
    return [(entry["command"], entry["answer"]) for entry in stored]


@pytest.fixture
def then(answers: list[tuple[list[str], Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory's clock shows when the answers were given: a search scores how long ago things were, too."""
    moment = max(row["at"] for command, rows in answers if command == ["memory", "history"] for row in rows)
    monkeypatch.setitem(ReflectionMemory.__init__.__kwdefaults__, "clock", lambda: moment)


def agentlab(lab: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--lab", str(lab)])


def answer(lab: Path, *arguments: str) -> Any:
    result = agentlab(lab, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def files(lab: Path) -> dict[str, bytes]:
    return {str(file.relative_to(lab)): file.read_bytes() for file in lab.rglob("*") if file.is_file()}


def same(then: Any, now: Any, where: str, but: set[str]) -> None:
    """Assert that all that was said then is said now, `but` for some fields, numbers to 1e-4; more may be said."""
    if isinstance(then, dict):
        for key in then.keys() - CLOCKS - but:
            name = RENAMED.get(key, key)
            assert name in now, f"{where}.{key}"
            same(then[key], now[name], f"{where}.{key}", but)
    elif isinstance(then, list):
        assert len(then) == len(now), where
        for at, (old, new) in enumerate(zip(then, now, strict=True)):
            same(old, new, f"{where}[{at}]", but)
    elif isinstance(then, float):
        assert now == pytest.approx(then, abs=1e-4), where
    else:
        assert now == then, where


@pytest.mark.usefixtures("then")
def test_what_reads_answers_as_before_and_leaves_an_old_lab_as_it_is(
    lab: Path, version: int, answers: list[tuple[list[str], Any]]
) -> None:
    before = files(lab)
    for command, then in answers:
        if command[-1] == "run" or "undo" in command:
            break
        result = agentlab(lab, *command, "--json")
        assert result.exit_code == 0, result.output
        # A list that is cut says so since then.
        settings, database, *cut = result.stderr.splitlines()
        assert "hold_out" in settings and f"version {version}" in database
        assert not cut or (len(cut) == 1 and "--all" in cut[0]), cut
        now = json.loads(result.stdout)
        if version == 7 and "search" in command:
            # How both searches are fused has changed since: the last of what is found may be another.
            assert len({hit["id"] for hit in now} & {hit["id"] for hit in then}) >= len(then) - 1
        else:
            same(then, now, " ".join(command), SINCE_7 if version == 7 else SINCE_9)
    assert files(lab) == before


def test_an_undo_brings_an_old_lab_up_to_date_and_takes_back_what_was_done_then(
    packed: dict[int, Path], lab: Path, version: int, answers: list[tuple[list[str], Any]]
) -> None:
    (command, then) = next(one for one in answers if "undo" in one[0])
    result = agentlab(lab, *command)
    assert result.exit_code == 0, result.output
    assert f"lab.version-{version}.db" in result.stderr
    now = {row["id"]: row for row in answer(lab, "memory", "list")}
    for row in then:
        same(row, now[row["id"]], row["id"], SINCE_7)
    # The copy is the lab as it was, and an older version goes on with it.
    with (
        closing(sqlite3.connect(lab / f"lab.version-{version}.db")) as copy,
        closing(sqlite3.connect(f"file:{packed[version]}/lab/lab.db?immutable=1", uri=True)) as old,
    ):
        assert list(copy.iterdump()) == list(old.iterdump())
    assert "hold_out = 0.3" in (lab / "lab.toml").read_text()
    copied = (lab / f"lab.version-{version}.db").stat()
    again = agentlab(lab, "memory", "pin", then[-1]["id"])
    assert again.exit_code == 0 and "version" not in again.stderr
    assert (lab / f"lab.version-{version}.db").stat() == copied


def test_rounds_run_goes_on_with_the_round_that_an_earlier_version_left(
    lab: Path, version: int, answers: list[tuple[list[str], Any]]
) -> None:
    at = next(at for at, (command, _) in enumerate(answers) if command == ["rounds", "run"])
    same(answers[at][1], answer(lab, "rounds", "run"), "rounds run", set())
    same(answers[at + 1][1], answer(lab, "adapters", "list"), "adapters list", set())


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_file_that_an_earlier_version_exported_is_imported(
    packed: dict[int, Path], tmp_path: Path, form: str
) -> None:
    with Lab.open(tmp_path / "new", create=True, config=LabConfig(embedder="hashing")):
        pass
    for folder in packed.values():
        result = agentlab(tmp_path / "new", "memory", "import", str(folder / f"export.{form}"))
        assert result.exit_code == 0, result.output
        assert len(answer(tmp_path / "new", "memory", "list")) > 30
    texts = {row["text"] for row in answer(tmp_path / "new", "memory", "list")}
    assert texts >= {"Take the coin as soon as you see it.", "Read the note before you open a door."}


def test_what_earlier_versions_stored_is_read_under_its_old_names() -> None:
    config = {"envs": ["toy/doors"], "hold": {"envs": ["twx/coin"]}}
    stored = {"id": "round-1", "number": 1, "config": config, "phase": "keep", "held": {"twx/coin": 3}}
    report = RoundReport.model_validate(stored)
    assert (report.phase, report.kl_episodes, report.config.kl.envs) == ("retention", {"twx/coin": 3}, ["twx/coin"])
    assert RoundReport.model_validate(report.model_dump(mode="json")) == report
    assert Lineage.model_validate({"held": ["ep-1"]}).kl_episodes == ["ep-1"]
    example = {"token_ids": [1, 2], "weights": [0.0, 1.0], "episode": "ep-1", "task": "toy/doors:train:0"}
    record = read("sft", json.dumps({"example": example, "elsewhere": example}))
    assert isinstance(record, Regularised) and record.reference.episode == "ep-1"
