from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.workspace import Workspace

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
    (line,) = (line for line in listed.splitlines() if card["id"] in line)
    assert card["envs"] == [ENV] and ENV in line and line.split()[-5] == "4"
    played = agentlab(folder, "eval", ENV, "--arm", card["id"], "--seeds", "0-1", "--json")
    assert played.exit_code == 0, played.output
    assert [row["arm"] for row in json.loads(played.stdout)["rows"]] == [f"{card['id']}@0.3"]


def test_the_list_shows_the_good_ones_and_names_each_bad_one_with_its_reason(folder: Path) -> None:
    (card,) = json.loads(agentlab(folder, "steer", ENV, "--method", "random", "--steps", "2", "--json").stdout)
    bad = {"steering-empty": None, "steering-cut": '{"id"', "steering-older": "{}", "steering-zother": json.dumps(card)}
    for name, text in bad.items():
        (folder / "steering" / name).mkdir()
        if text is not None:
            (folder / "steering" / name / "card.json").write_text(text)
    try:
        listed, data = agentlab(folder, "steer"), agentlab(folder, "steer", "--json")
    finally:
        for name in bad:
            shutil.rmtree(folder / "steering" / name)
    assert listed.exit_code == data.exit_code == 0
    assert card["id"] in listed.stdout and card in json.loads(data.stdout)
    for result in (listed, data):
        notes = [line for line in result.stderr.splitlines() if "steering-" in line]
        assert len(notes) == len(bad) and all(any(name in line for line in notes) for name in bad)
        assert all("card.json" in line and "delete" in line for line in notes)
    assert not any(name in listed.stdout for name in bad)


def test_an_environment_that_is_none_is_refused_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(workspace: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Workspace, "engine", property(loaded))
    result = agentlab(folder, "steer", "foo/bar")
    assert result.exit_code == 2 and "foo/bar" in result.stderr and "train game" not in result.stderr


def test_an_environment_is_found_however_its_parameters_are_ordered(folder: Path) -> None:
    again = agentlab(folder, "steer", "toy/doors?step_limit=4,rooms=1,colours=2", "--steps", "2", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)[0]["envs"] == [ENV]


def test_a_vector_whose_weights_were_changed_plays_no_game(folder: Path) -> None:
    making = ["steer", ENV, "--method", "random", "--steps", "2", "--seed", "7", "--json"]
    (card,) = json.loads(agentlab(folder, *making).stdout)
    file = folder / "steering" / card["id"] / "steering.safetensors"
    written = file.read_bytes()
    file.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    for command in ("run", "eval"):
        result = agentlab(folder, command, ENV, "--arm", f"{card['id']}@0.3", "--seeds", "0-1")
        assert result.exit_code == 2, result.output
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
        assert card["id"] in line and "SHA-256" in line


@pytest.mark.parametrize(
    "option",
    [("--method", "random"), ("--question", "Good?"), ("--strength", "0.1"), ("--steps", "64"), ("--seed", "0")],
)
def test_an_option_of_making_without_an_environment_is_refused(folder: Path, option: tuple[str, str]) -> None:
    result = agentlab(folder, "steer", *option)
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and option[0] in line


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
