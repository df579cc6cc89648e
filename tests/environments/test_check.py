from __future__ import annotations

import re
import sys
from typing import Any, ClassVar

import pytest

from environments import ContractViolation, EnvironmentDied, Task, TextEnv, Turn, check_or_raise, families
from environments.check import RULES, check


class Rooms(TextEnv):
    """A game that keeps the contract: go on three times. Subclasses break one rule each."""

    broken: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__("own/rooms", step_limit=6)
        self.place = 0
        self.games = 0

    def begin(self, task: Task) -> Turn:
        self.place = 0
        self.games += 1
        self.where = f"{task.split} {task.seed}"
        return self.turn("go on three times")

    def act(self, action: str) -> Turn:
        self.place += action == "go on"
        return self.turn("")

    def turn(self, goal: str) -> Turn:
        text = f"House {self.where}, room {self.place}."
        return Turn(text, ["go on", "wait"], self.place / 3, won=self.place == 3, goal=goal)._replace(**self.broken)


class NoCommands(Rooms):
    broken: ClassVar[dict[str, Any]] = {"admissible": []}


class OddCommands(Rooms):
    broken: ClassVar[dict[str, Any]] = {"admissible": ["", "go on"]}


class HighScore(Rooms):
    broken: ClassVar[dict[str, Any]] = {"score": 1.5}


class NotANumber(Rooms):
    broken: ClassVar[dict[str, Any]] = {"value": float("nan")}


class HalfWon(Rooms):
    def turn(self, goal: str) -> Turn:
        turn = super().turn(goal)
        return turn._replace(score=0.5) if turn.won else turn


class NoGoal(Rooms):
    def turn(self, goal: str) -> Turn:
        return super().turn("")


class NewGoal(Rooms):
    def turn(self, goal: str) -> Turn:
        return super().turn(f"be in room {self.place}")


class Forgetful(Rooms):
    def begin(self, task: Task) -> Turn:
        turn = super().begin(task)
        return turn._replace(observation=f"Game {self.games}.")


class Drifting(Rooms):
    def act(self, action: str) -> Turn:
        return super().act(action)._replace(observation=f"Game {self.games}.")


class OneFold(Rooms):
    def begin(self, task: Task) -> Turn:
        return super().begin(Task(env=task.env, split="train", seed=task.seed))


class NoSeeds(Rooms):
    def seeds(self, split):
        return range(5 if split == "train" else 0)


class Touchy(Rooms):
    def act(self, action: str) -> Turn:
        if action not in ("go on", "wait"):
            raise ValueError("what?")
        return super().act(action)


class Crashing(Rooms):
    def act(self, action: str) -> Turn:
        raise ZeroDivisionError("division by zero")


class Mortal(Rooms):
    def begin(self, task: Task) -> Turn:
        raise EnvironmentDied("it died")


class Endless(Rooms):
    def step(self, action: str):
        observation, reward, terminated, _, info = super().step("wait")
        self._over = False
        return observation, reward, terminated, False, info


class Untold(Rooms):
    def step(self, action: str):
        turn = super().step(action)
        turn[4].pop("state")
        return turn


@pytest.mark.parametrize(
    ("factory", "rule"),
    [
        (NoCommands, "commands"),
        (OddCommands, "commands"),
        (HighScore, "score"),
        (NotANumber, "reward"),
        (HalfWon, "end"),
        (NoGoal, "goal"),
        (NewGoal, "goal"),
        (Forgetful, "same seed"),
        (Drifting, "replay"),
        (OneFold, "folds"),
        (NoSeeds, "folds"),
        (Touchy, "any action"),
        (Crashing, "makes"),
        (Mortal, "makes"),
        (Endless, "step limit"),
        (Untold, "info"),
    ],
)
def test_a_broken_rule_is_found(factory, rule: str) -> None:
    report = check(factory)
    assert rule in [finding.rule for finding in report.findings if not finding.ok]
    assert not report.ok and "breaks the contract" in str(report) and "FAIL" in str(report)
    with pytest.raises(ContractViolation, match=rule):
        check_or_raise(factory)


def test_a_game_that_keeps_the_contract_passes_every_rule() -> None:
    report = check_or_raise(Rooms)
    assert report.ok
    assert [finding.rule for finding in report.findings] == list(RULES)
    assert str(report).startswith("own/rooms: keeps the contract")


def test_chosen_tasks_are_what_is_played() -> None:
    report = check(Rooms, [Task(env="own/rooms", split="test", seed=3)])
    assert report.ok and "folds" not in [finding.rule for finding in report.findings]


def test_an_id_that_cannot_be_made_is_a_finding() -> None:
    report = check("twx/nothing")
    assert not report.ok and "did you mean" in str(report)


SHIPPED = [env_id for family in families() if family.available for env_id in family.checked]


@pytest.mark.parametrize("env_id", [*SHIPPED, "twx/simonsays?memorization=1", "twx/twc?numItemsToPutAway=2"])
def test_every_environment_that_ships_keeps_the_contract(env_id: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check_or_raise(env_id, episodes=2, starts=4 if env_id.startswith(("tw/", "sciworld/")) else 20)


class Over(Rooms):
    def begin(self, task: Task) -> Turn:
        turn = super().begin(task)
        return turn._replace(won=True, score=1.0) if task.seed == 1 else turn


class Halved(Rooms):
    def act(self, action: str) -> Turn:
        turn = super().act(action)
        return turn._replace(observation=f"{turn.observation} \ud83d")


class Silent(Rooms):
    broken: ClassVar[dict[str, Any]] = {"observation": None}


class Raw(Rooms):
    broken: ClassVar[dict[str, Any]] = {"observation": b"House."}


class Numbers(Rooms):
    broken: ClassVar[dict[str, Any]] = {"admissible": [0, 1]}


class Unsure(Rooms):
    broken: ClassVar[dict[str, Any]] = {"won": [False]}


class Leaving(Rooms):
    def act(self, action: str) -> Turn:
        sys.exit("the simulator gave up")


class Interrupting(Rooms):
    def act(self, action: str) -> Turn:
        raise KeyboardInterrupt


class Unclosable(Rooms):
    def close(self) -> None:
        raise RuntimeError("cannot close")


class LeavingAtTheEnd(Rooms):
    def close(self) -> None:
        sys.exit(3)


@pytest.mark.parametrize(
    ("factory", "rule", "detail"),
    [
        (Over, "begins", "own/rooms:train:1 is over"),
        (Halved, "text", "observation has half a character"),
        (Silent, "text", "`observation` = None"),
        (Raw, "text", "`observation` = b'House.'"),
        (Numbers, "commands", "`admissible` with 0 in it"),
        (Unsure, "info", r"`won` = \[False\]"),
        (NotANumber, "reward", "`value` = nan"),
        (HighScore, "score", r"`score` = 1\.5"),
        (Leaving, "makes", "SystemExit: the simulator gave up"),
        (Interrupting, "makes", "KeyboardInterrupt"),
        (Unclosable, "close", "cannot close"),
        (LeavingAtTheEnd, "close", "SystemExit"),
    ],
)
def test_what_would_end_an_episode_or_a_program_is_found_and_named(factory: Any, rule: str, detail: str) -> None:
    found = {finding.rule: finding for finding in check(factory).findings}
    assert not found[rule].ok and re.search(detail, found[rule].detail)
    assert "\n" not in found[rule].detail and found[rule].detail.isascii()
