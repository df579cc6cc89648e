from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from agentlab.cli import app
from agentlab.cli.playing import IN_ROUNDS, PLAYING, Playing, plays_by

RUNNER = CliRunner()


def test_a_command_gets_what_was_given_for_the_options_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    got: list[dict[str, Any]] = []
    small = typer.Typer()

    @small.command()
    @plays_by(IN_ROUNDS)
    def play(env: str, *, playing: Playing, last: int = 0) -> None:
        """Play."""
        got.append({"env": env, "last": last, **playing})

    assert RUNNER.invoke(small, ["a", "--think", "4", "--engine", "vllm", "--last", "2"]).exit_code == 0
    assert got == [{"env": "a", "last": 2, **dict.fromkeys(IN_ROUNDS), "think": 4, "engine": "vllm"}]
    assert list(get_type_hints(play, include_extras=True)) == ["env", *IN_ROUNDS, "last", "return"]
    assert play.__doc__ == "Play."


@pytest.mark.parametrize(
    ("words", "options"),
    [(["run"], PLAYING), (["eval"], PLAYING), (["rounds", "run"], IN_ROUNDS)],
    ids=["run", "eval", "rounds run"],
)
def test_the_help_of_a_command_that_plays_has_its_options(words: list[str], options: dict[str, Any]) -> None:
    said = RUNNER.invoke(app, [*words, "--help"]).stdout
    assert {name for name in PLAYING if f"--{name.replace('_', '-')} " in said} == set(options)


@pytest.mark.parametrize(("option", "value"), [("--max-cost", "1"), ("--engine", "chat")])
def test_a_round_that_no_api_can_play_does_not_offer_one(tmp_path: Path, option: str, value: str) -> None:
    result = RUNNER.invoke(app, ["rounds", "run", "toy/doors", option, value, "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 2 and option in result.stderr.splitlines()[-1]
    assert not (tmp_path / "lab").exists()
