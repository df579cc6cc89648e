"""The 2×2 on a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.agent.rollout import TaskResult, Trial
from agentlab.cli import app
from agentlab.cli.two_by_two import internalised
from agentlab.experiments.evaluation import Table, row
from agentlab.experiments.two_by_two import TwoByTwo, analyse
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from environments import Task
from trainers.gate.statistics import Ratio

ENVS = ["toy/doors", "toy/doors?rooms=1,colours=2"]


def found() -> TwoByTwo:
    """A new adapter that wins all games of one kind, and none of the other."""
    wins = {"base": (2, 15), "base + memory": (14, 15), "adapter-0": (20, 0), "adapter-0 + memory": (20, 14)}
    rows = [
        row(
            arm,
            [
                TaskResult(Task(env=env, split="test", seed=n), arm, (Trial("e", "won" if n < won else "lost", 0, 1),))
                for env, won in zip(ENVS, of, strict=True)
                for n in range(20)
            ],
        )
        for arm, of in wins.items()
    ]
    return analyse("base", "adapter-0123456789ab", Table(envs=ENVS, rows=rows))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """With what the 2×2 was asked for; it is not really played."""
    asked: dict[str, Any] = {}

    def two_by_two(self: Lab, envs: list[str], **settings: Any) -> TwoByTwo:
        asked.update(settings, envs=envs)
        return found()

    monkeypatch.setattr(Lab, "two_by_two", two_by_two)
    with Lab.open(tmp_path / "lab", create=True, config=LabConfig(embedder="hashing")):
        pass
    return asked


def test_it_fits_eighty_columns_and_says_what_matters(tmp_path: Path, asked: dict[str, Any]) -> None:
    arguments = ["rounds", "2x2", "toy/doors", "--old", "base", "--seeds", "0-9", "--lab", str(tmp_path / "lab")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert asked == {
        "envs": ["toy/doors"], "old": "base", "new": "adapter", "split": "test", "seeds": list(range(10)), "name": None,
        "same_memory": False,
    }  # fmt: skip
    assert max(map(len, result.stdout.splitlines())) <= 80
    for part in ("0.42 (17/40)", "adapter-0123456789ab", "+0.30", "15/20", "0/20", "0.0002 worse"):
        assert part in result.stdout
    said = " ".join(result.stdout.split())
    assert "Worse under the new adapter: toy/doors?rooms=1,colours=2 (memory off)." in said
    assert f"Internalised: {3 / 12:.0%}" in said


def test_as_json_it_is_whole(tmp_path: Path, asked: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["rounds", "2x2", "toy/doors", "--json", "--lab", str(tmp_path / "lab")])
    assert TwoByTwo.model_validate(json.loads(result.stdout)) == found()


def test_a_share_that_means_nothing_is_not_printed() -> None:
    said = internalised(Ratio(value=None, low=None, high=None, below=-0.05, above=0.2))
    assert "no share means anything" in said and "[-0.05, +0.20]" in said


def test_unlike_memories_are_said_to_be_so(
    tmp_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlike = found().model_copy(update={"same_memory": False})
    monkeypatch.setattr(Lab, "two_by_two", lambda self, envs, **settings: asked.update(settings) or unlike)
    result = CliRunner().invoke(app, ["rounds", "2x2", "toy/doors", "--same-memory", "--lab", str(tmp_path / "lab")])
    assert asked["same_memory"] is True
    assert "may be that of the examples. --same-memory gives both" in " ".join(result.output.split())
    monkeypatch.setattr(Lab, "two_by_two", lambda self, envs, **settings: found())
    result = CliRunner().invoke(app, ["rounds", "2x2", "toy/doors", "--lab", str(tmp_path / "lab")])
    assert "examples" not in result.output
