"""A lab's tools: an environment whose id names none is played with them, and every record names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.cli.round_options import settings
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from agentlab.rounds.report import save
from agentlab.workspace.config import LabConfig

RUNNER = CliRunner()
PLAIN, NOTED = "toy/doors?rooms=1", "toy/doors?rooms=1,tools=notes"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    Lab.open(folder, create=True, config=LabConfig(tools=["notes"])).close()
    return folder


def said(lab: Path, *arguments: str) -> Any:
    result = RUNNER.invoke(app, [*arguments, "--lab", str(lab), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def envs(lab: Path, *asked: str) -> list[str]:
    return sorted({row["env"] for row in said(lab, "episodes", *asked)})


def test_they_are_played_with_and_the_records_name_them(lab: Path) -> None:
    results = said(lab, "run", PLAIN, "--seeds", "0-2", "--trials", "6", "--arm", "random")
    assert [result["task"]["env"] for result in results] == [NOTED] * 3
    assert envs(lab) == envs(lab, "--env", PLAIN) == envs(lab, "--env", NOTED) == [NOTED]
    with Lab.open(lab, write=False) as here:
        steps = [step for row in here.database.episodes.find() for step in here.database.episodes.get(row.id).steps]
    assert any(step.action.startswith("note that ") for step in steps)


def test_an_id_that_names_tools_has_those_alone_and_none_if_it_says_so(lab: Path) -> None:
    table = said(
        lab, "eval", PLAIN, f"{PLAIN},tools=none", f"{PLAIN},tools=calculator", "--seeds", "0", "--arm", "random"
    )
    assert table["envs"] == [NOTED, PLAIN, f"{PLAIN},tools=calculator"]
    assert envs(lab, "--env", f"{PLAIN},tools=none") == [PLAIN]


def test_a_tool_that_makes_no_sense_in_a_game_proposes_nothing(tmp_path: Path) -> None:
    with Lab.open(tmp_path, create=True, config=LabConfig(tools=["calculator", "navigator", "sort"])) as lab:
        lab.run(PLAIN, arm="random", seeds=range(3), trials=1)
        episodes = [lab.database.episodes.get(row.id) for row in lab.database.episodes.find()]
    verbs = {command.split()[0] for episode in episodes for step in episode.steps for command in step.admissible}
    assert verbs == {"look", "read", "open", "take"}


def test_a_round_learns_with_them_and_the_next_one_as_it_did(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[list[str]] = []
    monkeypatch.setattr("agentlab.rounds.run_round", lambda _, config: played.append(config.named().envs))
    with Lab.open(lab) as here:
        here.round(settings(here, [PLAIN], None, {}))
        here.round(RoundConfig(envs=[PLAIN]))
        save(here, RoundReport(id="round-1", number=1, config=RoundConfig(envs=[PLAIN]), phase="done"))
        here.round(settings(here, None, None, {}))
    assert played == [[NOTED], [NOTED], [PLAIN]]
