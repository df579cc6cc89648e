"""`agentlab distill --export` and `--import`, as a person meets them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentlab import rounds
from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.workspace.config import LabConfig
from memory.records import Episode
from trainers import job
from trainers.config import BaseRef
from trainers.data.examples import Example

RUNNER = CliRunner()


@pytest.fixture
def lab(tmp_path: Path, tiny_model: Path) -> Path:
    """A lab with one won game."""
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing", model=str(tiny_model))) as opened:
        opened.database.episodes.put(Episode(id="e", run="r", env="toy/doors", split="train", seed=0, status="won"))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """What was asked for; exports write a job of one example, and imports say that the adapter was promoted."""
    asked: list[tuple[str, Any]] = []

    def export(lab: Lab, config: RoundConfig, folder: Path) -> RoundReport:
        asked.append(("export", config))
        example = Example(token_ids=[1, 2], weights=[0.0, 1.0], episode="e", task="t")
        job.create(folder, job.JobConfig(base=BaseRef(name="tiny", fingerprint="f" * 64)), [example])
        return RoundReport(id="round-1", number=1, config=config, phase="train")

    def bring(lab: Lab, folder: Path) -> RoundReport:
        asked.append(("import", folder))
        config = RoundConfig(envs=["toy/doors"])
        return RoundReport(id="round-1", number=1, config=config, phase="done", adapter="ad-1", promoted=True)

    monkeypatch.setattr(rounds, "export_round", export)
    monkeypatch.setattr(rounds, "import_round", bring)
    yield asked


def agentlab(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--lab", str(lab)])


def test_an_export_says_what_to_copy_where_and_what_to_run(
    lab: Path, asked: list[tuple[str, Any]], tmp_path: Path, tiny_model: Path
) -> None:
    out = tmp_path / "the job"
    result = agentlab(lab, "distill", "--export", str(out), "--gate-games", "24")
    assert result.exit_code == 0, result.output
    ((what, config),) = asked
    assert (what, config.envs, config.collect, config.gate_seeds) == ("export", ["toy/doors"], "none", 24)
    for part in (
        "round-1 waits for its training: 1 examples in",
        str(tiny_model),
        "cd 'the job' && PYTHONPATH=code python -m trainers.job . --base BASE",
    ):
        assert part in result.stdout
    assert shlex.split(result.stdout.splitlines()[-1])[1:] == ["distill", "--import", str(out), "--lab", str(lab)]
    found = json.loads(agentlab(lab, "distill", "--export", str(tmp_path / "more"), "--json").stdout)
    assert found["job"] == job.load(tmp_path / "more").id and found["base"] == str(tiny_model)
    assert found["fingerprint"] == "f" * 64


def test_a_round_that_waits_is_sent_as_it_is(lab: Path, asked: list[tuple[str, Any]], tmp_path: Path) -> None:
    config = RoundConfig(envs=["toy/doors"], seeds=3, collect="both")
    with Lab.open(lab) as opened:
        waiting = RoundReport(id="round-1", number=1, config=config, phase="train")
        opened.database.rounds.put(waiting.id, waiting.model_dump(mode="json"))
    assert agentlab(lab, "distill", "--export", str(tmp_path / "out")).exit_code == 0
    assert asked == [("export", config)]


def test_a_whole_round_can_be_sent_away_too(lab: Path, asked: list[tuple[str, Any]], tmp_path: Path) -> None:
    result = agentlab(lab, "rounds", "run", "toy/doors", "--games", "3", "--export", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert asked == [("export", RoundConfig(envs=["toy/doors"], seeds=3))]
    assert "waits for its training" in result.stdout


def test_only_one_round_is_sent_away(tmp_path: Path) -> None:
    result = agentlab(tmp_path / "new", "rounds", "run", "toy/doors", "--export", "out", "--count", "2")
    assert result.exit_code == 2 and "leave out --count" in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_import_ends_with_the_verdict(lab: Path, asked: list[tuple[str, Any]], tmp_path: Path) -> None:
    result = agentlab(lab, "distill", "--import", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert asked == [("import", tmp_path / "out")] and "Promoted: it serves now." in result.stdout
    assert json.loads(agentlab(lab, "distill", "--import", "x", "--json").stdout)[0]["adapter"] == "ad-1"


@pytest.mark.parametrize("more", [["toy/doors"], ["--gate-games", "3"], ["--export", "there"]])
def test_an_import_has_no_settings_of_its_own(lab: Path, asked: list[tuple[str, Any]], more: list[str]) -> None:
    result = agentlab(lab, "distill", "--import", "out", *more)
    assert result.exit_code == 2 and "give it alone" in result.stderr and asked == []


def test_a_folder_that_is_no_job_is_one_line(lab: Path, tmp_path: Path) -> None:
    result = agentlab(lab, "distill", "--import", str(tmp_path))
    assert result.exit_code == 2 and "is not a training job" in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_tells_the_way_there_and_back() -> None:
    shown = " ".join(RUNNER.invoke(app, ["distill", "--help"]).stdout.split())
    for part in ("--export", "--import", "pip install torch", "PYTHONPATH=code python -m trainers.job"):
        assert part in shown
