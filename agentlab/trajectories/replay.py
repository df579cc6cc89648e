"""Replay: a list of actions played again from the start of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentlab.trajectories.budget import Meter
from agentlab.trajectories.transition import Decision, Game
from environments import Task, TextEnv
from memory.records import Step


class Move(NamedTuple):
    """An action to be played again, and what was thought before it."""

    action: str
    thought: str = ""


def moves(steps: Iterable[Step]) -> list[Move]:
    """The moves that some steps were."""
    return [Move(step.action, step.thought) for step in steps]


@dataclass(frozen=True)
class Replay:
    """What an environment answered to a list of actions."""

    steps: list[Step]
    won: bool
    score: float

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]


def replay(
    env: TextEnv, task: Task, actions: Sequence[str | Move], meter: Meter | None = None, *, skip: bool = False
) -> Replay | None:
    """Play `actions` from the task's start; each keeps its thought. None if one of them is not admissible when its turn
    comes, where the environment lists what is; with `skip` such a one is left out.

    Raises OutOfBudget, EnvironmentDied.
    """
    if meter is not None:
        meter.reset()
    game = Game(env, task)
    for action, thought in (Move(one) if isinstance(one, str) else one for one in actions):
        commands = game.info["admissible_commands"]
        if commands is not None and action not in commands:
            if skip:
                continue
            return None
        if meter is not None:
            meter.step()
        game.step(Decision(action, commands or [], thought=thought))
        if game.ended:
            break
    return Replay(game.steps, bool(game.info["won"]), game.score)
