from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import environments
from agentlab.cli import app
from environments import registry

RUNNER = CliRunner()
LAMP = """
from agentlab import TextEnv, register
from environments import Turn

class Lamp(TextEnv):
    def begin(self, task):
        return Turn("A lamp.", ["off", "on"], 0.0, False, False, goal="Light it.")

    def act(self, action):
        lit = action == "on"
        return Turn("Light." if lit else "Dark.", ["off", "on"], float(lit), lit, False, goal="Light it.")

register("own/lamp", lambda: Lamp("own/lamp", step_limit=3))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a module in the folder that one is in, which registers an environment."""
    name = f"lamps_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(LAMP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    registry._plugins.cache_clear()
    yield name
    environments.unregister("own/lamp")
    registry._plugins.cache_clear()


def envs(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["envs", *arguments])


def data(*arguments: str) -> Any:
    result = envs(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_environment_is_listed_with_its_parameters() -> None:
    listed = {row["env"]: row for row in data()}
    here = {name for family in environments.families() if family.available for name in family.environment_ids}
    assert "sciworld/boil" in here and here <= listed.keys()
    assert listed["twx/coin"]["parameters"] == list(environments.games("twx/coin").parameters)
    assert all(listed[name]["available"] for name in here)


def test_one_shows_range_and_default_of_each_parameter_and_an_id_that_can_be_played() -> None:
    said = data("twx/coin?numLocations=3")
    assert said["env"] == "twx/coin"
    (rooms,) = [row for row in said["parameters"] if row["parameter"] == "numLocations"]
    assert (rooms["low"], rooms["default"], rooms["high"]) == (1, 5, 11)
    shown = envs("twx/coin").stdout
    example = shown.rsplit("'", 2)[1]
    assert environments.canonical(example) == ("twx/coin?includeDoors=0,numLocations=1")


def test_an_environment_that_does_not_exist_is_refused() -> None:
    assert envs("twx/con").exit_code == 2


def test_a_module_of_ones_own_is_played_from_the_command_line(module: str, tmp_path: Path) -> None:
    command = ["--import", module, "eval", "own/lamp", "--arm", "random", "--seeds", "0-3", "--json"]
    result = RUNNER.invoke(app, [*command, "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"][0]["cells"]["all"]["n"] == 4
    listed = [row["env"] for row in json.loads(RUNNER.invoke(app, ["--import", module, "envs", "--json"]).stdout)]
    assert "own/lamp" in listed


def test_a_module_that_cannot_be_imported_is_refused_in_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "broken_games.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "leaving_games.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    for name in ("no_such_games", "broken_games", "leaving_games", "../games"):
        result = RUNNER.invoke(app, ["--import", name, "envs"])
        assert result.exit_code == 2
        assert name in result.output and len(result.output.splitlines()) == 1


def test_an_entry_point_brings_its_environments_and_a_broken_one_takes_none_away(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [EntryPoint("lamps", module, registry.GROUP), EntryPoint("lost", "no_such_games", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.syspath_prepend(Path.cwd())
    assert environments.canonical("own/lamp") == "own/lamp"
    listed = {row["env"]: row for row in data()}
    assert listed["own/lamp"]["available"] and listed["twx/coin"]["available"]
    assert not listed["lost/…"]["available"] and "no_such_games" in listed["lost/…"]["why_not"]


def test_what_gymnasium_has_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["run", "gym/FrozenLake-v1", "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 2
    assert "Loading the model" not in result.output and "FrozenLake-v1" in result.output
