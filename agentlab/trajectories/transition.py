"""The transition: a decision goes into an environment, and a whole `Step` comes of it.

Whoever plays for the record – the agent, random exploration, a search, a replay – plays a `Game`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentlab import failures
from environments import EnvironmentDied, Task, TextEnv
from memory.records import Status, Step


@dataclass(frozen=True, slots=True)
class Decision:
    """A command, and what it was chosen by.

    Attributes:
        candidates: the commands that could be chosen.
        scores: the engine's log-probability of each (natural log); None where nothing was ranked.
        bonus: what memory added to each, in nats; None where it added nothing.
        cut: characters of the observation that did not fit into the model's context.
    """

    command: str
    candidates: list[str]
    scores: list[float] | None = None
    bonus: list[float] | None = None
    cut: int = 0


class Game:
    """One game of an environment, begun at its start, with a step for each decision.

    Attributes:
        observation, info: what the environment said last.
        steps: what was done, each step whole.
        ended: True when the game is over, or was cut short.

    Raises EnvironmentDied, also from `step`.
    """

    def __init__(self, env: TextEnv, task: Task) -> None:
        with failures.environment(task.env):
            observation, info = env.start(task)
        self.env, self.task = env, task
        self.observation: str = observation
        self.info: dict[str, Any] = dict(info)
        self.steps: list[Step] = []
        self.ended = ending(self.info) is not None

    @property
    def goal(self) -> str:
        return str(self.info["goal"])

    @property
    def state(self) -> str:
        """The situation, as far as a player can know it."""
        return str(self.info["state"])

    @property
    def score(self) -> float:
        return float(self.info["score"])

    @property
    def status(self) -> Status | None:
        """How the game ended; None while it goes on."""
        return (ending(self.info) or "truncated") if self.ended else None

    def admissible(self) -> list[str]:
        """The commands that may be chosen now. Raises EnvironmentDied if there are none although the game goes on."""
        commands: list[str] = self.info["admissible_commands"]
        if not commands:
            raise EnvironmentDied(
                f"The environment `{self.env.env_id}` gave no admissible command although the game goes on; "
                "`agentlab doctor` checks the environment."
            )
        return commands

    def step(self, decision: Decision) -> Step:
        """Send the command to the environment; the step that came of it, which is the last of `steps`."""
        with failures.environment(self.task.env):
            result, reward, terminated, truncated, after = self.env.step(decision.command)
        chosen, scores = decision.command, decision.scores
        # Without validation: the environment's answers were checked where they came in (environments.answers).
        step = Step.model_construct(
            index=len(self.steps),
            observation=self.observation,
            cut=decision.cut,
            state=self.state,
            admissible=decision.candidates,
            action=chosen,
            result=result,
            next_state=after["state"],
            reward=float(reward),
            score=float(after["score"]),
            logprob=scores[decision.candidates.index(chosen)] if scores is not None else None,
            scores=scores,
            bonus=decision.bonus,
        )
        self.steps.append(step)
        self.observation, self.info = result, dict(after)
        self.ended = bool(terminated or truncated)
        return step


def ending(info: Mapping[str, Any]) -> Status | None:
    """How the game ended; None while it goes on (or was cut short)."""
    return "won" if info["won"] else "lost" if info["lost"] else None
