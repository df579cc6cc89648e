from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


@pytest.fixture(scope="module")
def folder(open_at: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steer") / "lab"
    with open_at(folder) as opened:
        opened.run(ENV, seeds=range(24), trials=1, arm="random")
    return folder


def agentlab(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--lab", str(folder)])


def test_a_vector_is_made_listed_and_played_with(folder: Path) -> None:
    assert "No steering vectors here yet" in agentlab(folder, "steer").stdout
    made = agentlab(folder, "steer", ENV, "--steps", "4", "--strength", "0.3", "--json")
    assert made.exit_code == 0, made.output
    (card,) = json.loads(made.stdout)
    assert card["made"]["strength"] == 0.3 and len(card["episodes"]) == card["steps"] == 4
    assert json.loads(agentlab(folder, "steer", "--json").stdout) == [card]
    again = agentlab(folder, "steer", ENV, "--steps", "4", "--strength", "0.3")
    assert f"--arm {card['id']}@0.3 " in again.stdout
    listed = agentlab(folder, "steer").stdout
    assert card["id"] in listed and "self-control" in listed and "0.3" in listed
    played = agentlab(folder, "eval", ENV, "--arm", card["id"], "--seeds", "0-1", "--json")
    assert played.exit_code == 0, played.output
    assert [row["arm"] for row in json.loads(played.stdout)["rows"]] == [f"{card['id']}@0.3"]


@pytest.mark.parametrize(
    "words",
    [
        ["steer", ENV, "--strength", "0"],
        ["steer", ENV, "--strength", "nan"],
        ["steer", "--strength", "1e9"],
        ["steer", ENV, "--question", ""],
        ["steer", "toy/doors"],
        ["steer", "no/environment"],
        ["eval", ENV, "--arm", "steering-none"],
        ["eval", ENV, "--arm", "steering-none@much + memory"],
        ["run", ENV, "--arm", "steering-../../x"],
        ["adapters", "promote", "steering-none"],
    ],
)
def test_what_is_no_vector_or_makes_none_is_refused_in_one_line(folder: Path, words: list[str]) -> None:
    result = agentlab(folder, *words)
    assert result.exit_code == 2, result.output
    assert [line.startswith("error: ") for line in result.stderr.splitlines() if "Loading" not in line] == [True]
