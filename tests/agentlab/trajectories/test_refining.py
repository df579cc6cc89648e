"""Refining a success has a budget in steps of the environment, and there is one way to do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.trajectories.refinement import refine
from agentlab.trajectories.replay import replay
from environments import Task, TextEnv, Turn
from memory.records import Episode
from memory.store import EpisodeFilter

TASK = Task(env="own/walk", split="train", seed=0)
OTHERS = [f"look at {thing}" for thing in "abcdefghijklmnopqrst"]


class Walk(TextEnv):
    """So many steps have to be taken before the door opens; everything else only takes time."""

    def __init__(self, needed: int, limit: int) -> None:
        super().__init__("own/walk", limit)
        self.needed, self.taken = needed, 0

    def begin(self, task: Task) -> Turn:
        self.walked = 0
        return self.turn("A corridor.")

    def act(self, action: str) -> Turn:
        self.taken += 1
        self.walked += action == "walk"
        return self.turn("You walk." if action == "walk" else "Nothing of note.", left=action == "leave")

    def turn(self, said: str, left: bool = False) -> Turn:
        won = left and self.walked >= self.needed
        state = f"You have walked {self.walked}."
        return Turn(said, ["walk", "leave", "dance", *OTHERS], float(won), won, left and not won, state, "Leave.")


def lived(env: Walk, actions: list[str]) -> Episode:
    done = replay(env, TASK, actions)
    assert done is not None and done.won
    fields = {"id": "ep-1", "run": "r", "env": TASK.env, "split": "train", "seed": 0, "goal": "Leave."}
    env.taken = 0
    return Episode.model_validate({**fields, "status": "won", "score": 1.0, "steps": done.steps})


@pytest.mark.parametrize("length", [10, 56, 120])
def test_a_long_way_round_is_made_short_within_a_multiple_of_its_length(length: int) -> None:
    env = Walk(3, length)
    refined = refine(lived(env, [*["dance"] * (length - 4), "walk", "walk", "walk", "leave"]), env)
    assert refined.actions == ["walk", "walk", "walk", "leave"]
    assert 0 < env.taken <= max(400, 30 * length)


def test_a_success_of_which_nothing_can_go_costs_no_more_than_that() -> None:
    env = Walk(55, 60)
    refined = refine(lived(env, [*["walk"] * 55, "leave"]), env)
    assert refined.actions == [*["walk"] * 55, "leave"]
    assert 0 < env.taken <= 30 * 56


def test_where_the_budget_ends_the_best_so_far_is_kept() -> None:
    env = Walk(50, 200)
    wandering = [*(["dance"] * 30), *(["walk", *OTHERS[:2]] * 50), "leave"]
    refined = refine(lived(env, wandering), env)
    assert refined.won and len(refined.steps) < len(wandering)
    assert 0 < env.taken <= 30 * len(wandering)


def test_what_a_run_wins_on_train_games_is_kept_refined(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    lab._engine = ScriptedEngine(lambda text, command: -(len(text) * len(command) % 7) / 3)
    for arm in ("base", "base + memory"):
        results: Any = lab.run("toy/doors", seeds=range(6), arm=arm, trials=9)
        won = {trial.episode for result in results for trial in result.trials if trial.status == "won"}
        rows = lab.database.episodes.find(EpisodeFilter(split="train", status="won"))
        refined = {row.minimised_from: row.id for row in rows if row.minimised_from is not None}
        assert len(won) >= 4
        for id in won:
            assert "look" not in lab.database.episodes.get(refined.get(id, id)).actions
        spent = {trial.episode: trial.refining for result in results for trial in result.trials}
        assert all((steps > 0) == (id in won) for id, steps in spent.items()), "counted where it was spent"


def test_what_is_won_on_held_out_games_is_not_refined(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    results: Any = lab.run("toy/doors", split="test", seeds=range(3), arm="base + memory", trials=3)
    assert any(result.won_within(3) for result in results)
    assert all(row.minimised_from is None for row in lab.database.episodes.find())
    assert all(trial.refining == 0 for result in results for trial in result.trials)


class Kitchen(TextEnv):
    """A coin lies in one of the places, which are gone to from anywhere; it is won by taking it."""

    places = ("cabinet 1", "shelf 1", "table 1", "corner 1", "corner 2")

    def __init__(self, where: str, start: str) -> None:
        super().__init__("own/kitchen", 20)
        self.where, self.start_at = where, start

    def begin(self, task: Task) -> Turn:
        self.at, self.opened = self.start_at, False
        return self.turn("You see a cabinet 1, a shelf 1, and a table 1.")

    def act(self, action: str) -> Turn:
        if action.startswith("go to "):
            self.at = action.removeprefix("go to ")
            if self.at.startswith("corner"):
                return self.turn("A bare corner.")
            return self.turn(f"You arrive at {self.at}. {self.inside}")
        if action == "open cabinet 1":
            self.opened = True
            return self.turn(f"You open it. {self.inside}")
        return self.turn("You have it." if action.startswith("take") else "La la.", won=action.startswith("take"))

    @property
    def inside(self) -> str:
        if self.at == "cabinet 1" and not self.opened:
            return "It is closed."
        return "You see a coin 1." if self.at == self.where else f"There is nothing in {self.at}."

    def turn(self, said: str, won: bool = False) -> Turn:
        commands = ["sing", *(f"go to {place}" for place in self.places if place != self.at)]
        if self.at == "cabinet 1" and not self.opened:
            commands.append("open cabinet 1")
        elif self.at == self.where:
            commands.append(f"take coin 1 from {self.at}")
        return Turn(said, commands, float(won), won, state=f"{self.at} {self.opened}", goal="Take some coin.")


@pytest.mark.parametrize(
    ("where", "start", "lived_through", "expected"),
    [
        # Places that were looked through in vain, each once, a closed one opened there.
        (
            "table 1",
            "",
            ["go to shelf 1", "sing", "go to cabinet 1", "go to shelf 1", "go to table 1"],
            ["go to shelf 1", "go to cabinet 1", "open cabinet 1", "go to table 1"],
        ),
        # The cabinet was the first that was seen, and opening it is no place of its own.
        ("cabinet 1", "", ["sing", "go to cabinet 1", "open cabinet 1"], ["go to cabinet 1", "open cabinet 1"]),
        (
            "cabinet 1",
            "",
            ["go to cabinet 1", "go to shelf 1", "go to cabinet 1", "open cabinet 1"],
            ["go to shelf 1", "go to cabinet 1", "open cabinet 1"],
        ),
        # What was gone to after it had been seen was no search.
        ("shelf 1", "", ["go to shelf 1", "go to table 1", "go to shelf 1"], ["go to shelf 1"]),
        # Where one stood at first can be gone to from the cabinet, which is no more to be done there.
        (
            "table 1",
            "shelf 1",
            ["go to cabinet 1", "go to table 1"],
            ["go to cabinet 1", "open cabinet 1", "go to table 1"],
        ),
        # The second corner says nothing that the first did not.
        ("table 1", "", ["go to corner 1", "go to corner 2", "go to table 1"], ["go to corner 1", "go to table 1"]),
    ],
)
def test_where_one_looked_in_vain_stays_before_what_was_found(
    where: str, start: str, lived_through: list[str], expected: list[str]
) -> None:
    env, task = Kitchen(where, start), Task(env="own/kitchen", split="train", seed=0)
    take = f"take coin 1 from {where}"
    done = replay(env, task, [*lived_through, take])
    assert done is not None and done.won
    fields = {"id": "ep-1", "run": "r", "env": task.env, "split": "train", "seed": 0, "goal": "Take some coin."}
    episode = Episode.model_validate({**fields, "status": "won", "score": 1.0, "steps": done.steps})
    assert refine(episode, env).actions == [*expected, take]
