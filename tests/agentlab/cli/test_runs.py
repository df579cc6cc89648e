from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.agent.rollout import Rollout, TaskResult, Trial
from agentlab.cli import app, runs
from agentlab.experiments.evaluation import Table, row
from agentlab.lab import Lab
from agentlab.progress import Progress
from environments import Task

RUNNER = CliRunner()


def agentlab(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--lab", str(lab)])


def test_a_run_makes_the_lab_plays_and_says_how_to_look_further(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    result = agentlab(lab, "run", "toy/doors", "--seeds", "0-3", "--trials", "4", "--arm", "random")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("random")]
    assert [line[1] for line in lines] == ["1", "4"]
    assert "random, train: done" in result.stderr
    command = next(line.split() for line in result.stdout.splitlines() if "agentlab replay" in line)
    replayed = RUNNER.invoke(app, command[1:])
    assert replayed.exit_code == 0, replayed.output
    assert "Verified" in replayed.stdout


def test_the_same_run_again_plays_nothing_twice(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    arguments = ("run", "toy/doors", "--seeds", "0-2", "--arm", "random", "--json")
    first = agentlab(lab, *arguments)
    episodes = json.loads(agentlab(lab, "episodes", "--json").stdout)
    again = agentlab(lab, *arguments)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert json.loads(agentlab(lab, "episodes", "--json").stdout) == episodes


def test_an_evaluation_is_a_table_of_arms(tmp_path: Path) -> None:
    result = agentlab(tmp_path / "lab", "eval", "toy/doors", "--seeds", "0-4", "--arm", "random")
    assert result.exit_code == 0, result.output
    assert "/5)" in result.stdout
    table = json.loads(
        agentlab(tmp_path / "lab", "eval", "toy/doors", "--seeds", "0-4", "--arm", "random", "--json").stdout
    )
    assert table["rows"][0]["cells"]["toy/doors"]["n"] == 5


def test_every_arm_is_paired_with_the_base_within_as_many_trials() -> None:
    def results(arm: str) -> list[TaskResult]:
        return [TaskResult(Task(env="toy/doors", split="dev", seed=0), arm, (Trial("e", "won", 1.0, 3),))]

    names = [
        ("random", 1),
        ("base", 1),
        ("base + retry, 2 trials", 2),
        ("base + memory", 1),
        ("base + memory, 2 trials", 2),
    ]
    table = Table(envs=["toy/doors"], rows=[row(name, results(name), trials=trials) for name, trials in names])
    table.compare_with_base()
    assert [(found.arm, found.against) for found in table.comparisons] == [
        ("base + memory", "base"),
        ("base + memory, 2 trials", "base + retry, 2 trials"),
    ]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["toy/dors"], "did you mean `toy/doors`?"),
        (["toy/doors", "--seeds", "x"], "neither a number nor a range"),
        (["toy/doors?doors=3"], "doors"),
    ],
)
def test_bad_input_is_one_line_and_makes_no_lab(tmp_path: Path, arguments: list[str], part: str) -> None:
    for command in ("run", "eval"):
        result = agentlab(tmp_path / "lab", command, *arguments)
        assert result.exit_code == 2
        assert part in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "lab").exists()


def test_a_lab_keeps_the_model_that_it_was_made_with(tmp_path: Path, tiny_model: Path) -> None:
    lab, play = tmp_path / "lab", ("run", "toy/doors", "--seeds", "0", "--arm", "random", "--model")
    assert agentlab(lab, *play, str(tiny_model)).exit_code == 0
    result = agentlab(lab, *play, "an/other")
    assert result.exit_code == 2
    assert f"base model '{tiny_model}', not 'an/other'" in result.stderr.replace("\n", "")
    assert agentlab(lab, *play, str(tiny_model)).exit_code == 0


@pytest.mark.parametrize("fails", ["take_model", "limit"])
def test_a_lab_that_is_not_played_in_after_all_is_given_back(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def broken(self: Lab, *given: object, **asked: object) -> None:
        raise KeyboardInterrupt

    with Lab.open(tmp_path / "lab", create=True):
        pass
    monkeypatch.setattr(Lab, fails, broken)
    with pytest.raises(KeyboardInterrupt) as _kept:  # and with it all that was open
        runs.workplace(tmp_path / "lab", str(tiny_model) if fails == "take_model" else None, Progress())
    with Lab.open(tmp_path / "lab"):
        pass


def test_what_follows_from_the_engine_or_a_thought_holds_in_a_lab_that_is_there_too(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True):
        pass
    for playing in ({"think": 8}, {"samples": 3}):
        with runs.workplace(tmp_path / "lab", None, Progress(), **playing) as lab:
            assert lab.config.actor == "write", "who ranks neither thinks nor votes"
    with runs.workplace(tmp_path / "lab", None, Progress(), think=0, samples=1) as lab:
        assert lab.config.actor == "rank"
    with runs.workplace(tmp_path / "lab", None, Progress(), engine="chat", think=None) as lab:
        assert (lab.config.engine, lab.config.actor) == ("chat", "write")
    with runs.workplace(tmp_path / "lab", None, Progress(), engine="chat", actor="rank") as lab:
        assert lab.config.actor == "rank"


def test_a_model_folder_is_found_from_anywhere(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    once = ("run", "toy/doors", "--seeds", "0", "--arm", "random", "--model", "mine")
    assert [agentlab(tmp_path / "lab", *once).exit_code for _ in range(2)] == [0, 0]
    with Lab.open(tmp_path / "lab", write=False) as lab:
        assert lab.config.model == str(tmp_path / "mine")


def test_a_lab_that_another_process_writes_is_refused_with_its_holder(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True):
        result = agentlab(tmp_path / "lab", "run", "toy/doors", "--arm", "random")
        looked = agentlab(tmp_path / "lab", "episodes")
    assert result.exit_code == 2
    assert "being written by process" in result.stderr
    assert looked.exit_code == 0


def test_ctrl_c_ends_with_130_and_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    original = Rollout._task
    seen: list[int] = []

    def interrupted(self: Rollout, task: Task, *rest: object) -> TaskResult:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(task.seed)
        return original(self, task, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Rollout, "_task", interrupted)
    arguments = ("run", "toy/doors", "--seeds", "0-9", "--arm", "random", "--trials", "1")
    result = agentlab(lab, *arguments)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("error: ")
    monkeypatch.setattr(Rollout, "_task", original)
    assert agentlab(lab, *arguments).exit_code == 0
    episodes = json.loads(agentlab(lab, "episodes", "--json").stdout)
    assert [episode["minimised_from"] for episode in episodes].count(None) == 10
