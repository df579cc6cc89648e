from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab import demo
from agentlab.cli import app
from agentlab.demo import Demonstration
from agentlab.experiments.evaluation import Table, row
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport

RUNNER = CliRunner()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demonstration that only plays a little, at random."""

    def demonstrate(lab: Lab) -> Demonstration:
        results = lab.run("toy/doors", seeds=range(2), trials=3, arm="random", name="demo-play")
        table = Table(envs=["toy/doors"], rows=[row("random", results)])
        report = RoundReport(
            id="round-1",
            number=1,
            config=RoundConfig(envs=["toy/doors"]),
            adapter="ad-1",
            promoted=True,
            gate={"reason": "ahead by 20 pairs"},
        )
        return Demonstration(table, report, [results[0].trials[-1].episode])

    monkeypatch.setattr(demo, "demonstrate", demonstrate)


def test_the_demo_ends_with_the_table_the_lab_and_commands_that_work(quick: None, tmp_path: Path) -> None:
    lab = tmp_path / "my lab"
    result = RUNNER.invoke(app, ["demo", "--lab", str(lab)])
    assert result.exit_code == 0, result.output
    for part in ("toy/doors", "/2)", "ad-1 was promoted: ahead by 20 pairs", str(lab)):
        assert part in result.stdout
    commands = [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("  agentlab ")]
    assert [command[1] for command in commands] == ["memory", "memory", "replay", "rounds", "view"]
    for command in commands[1:3]:
        shown = RUNNER.invoke(app, command[1:])
        assert shown.exit_code == 0, shown.output


def test_the_demo_as_json_has_the_table_and_the_round(quick: None, tmp_path: Path) -> None:
    data = json.loads(RUNNER.invoke(app, ["demo", "--lab", str(tmp_path / "lab"), "--json"]).stdout)
    assert data["round"]["adapter"] == "ad-1"
    assert data["table"]["rows"][0]["arm"] == "random"
