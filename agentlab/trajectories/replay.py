"""Replay: a list of actions played again from the start of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentlab.trajectories.budget import Meter
from agentlab.trajectories.transition import Decision, Game
from environments import Task, TextEnv
from memory.records import Step


@dataclass(frozen=True)
class Replay:
    """What an environment answered to a list of actions."""

    steps: list[Step]
    won: bool
    score: float

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]


def replay(env: TextEnv, task: Task, actions: Sequence[str], meter: Meter | None = None) -> Replay | None:
    """Play `actions` from the task's start. None if one of them is not admissible when its turn comes, where
    the environment lists what is.

    Raises OutOfBudget, EnvironmentDied.
    """
    if meter is not None:
        meter.reset()
    game = Game(env, task)
    for action in actions:
        commands = game.info["admissible_commands"]
        if commands is not None and action not in commands:
            return None
        if meter is not None:
            meter.step()
        game.step(Decision(action, commands or []))
        if game.ended:
            break
    return Replay(game.steps, bool(game.info["won"]), game.score)
