"""Replay: a list of actions played again from the start of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentlab import failures
from agentlab.trajectories.budget import Meter
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
    """Play `actions` from the task's start. None if one of them is not admissible when its turn comes.

    Raises OutOfBudget, EnvironmentDied.
    """
    if meter is not None:
        meter.reset()
    with failures.environment(task.env):
        observation, info = env.start(task)
    steps: list[Step] = []
    for index, action in enumerate(actions):
        if action not in info["admissible_commands"]:
            return None
        if meter is not None:
            meter.step()
        with failures.environment(task.env):
            result, reward, terminated, truncated, after = env.step(action)
        steps.append(
            Step(
                index=index,
                observation=observation,
                state=info["state"],
                admissible=info["admissible_commands"],
                action=action,
                result=result,
                next_state=after["state"],
                reward=float(reward),
                score=float(after["score"]),
            )
        )
        observation, info = result, after
        if terminated or truncated:
            break
    return Replay(steps, bool(info["won"]), float(info["score"]))
