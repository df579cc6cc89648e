"""The transition: a decision goes into an environment, and a whole `Step` comes of it.

Whoever plays for the record – the agent, random exploration, a search, a replay – plays a `Game`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlab import failures
from agentlab.errors import NoCommands
from environments import EnvironmentDied, Task, TextEnv
from memory.prompts import Reading, read_at_start, read_by
from memory.records import NO_USAGE, Status, Step, Usage


@dataclass(frozen=True, slots=True)
class Decision:
    """A command, and what it was chosen by.

    Attributes:
        candidates: the commands that it was chosen from, itself among them unless it is `invalid`; empty where it was
            written freely.
        scores: the engine's log-probability of each (natural log); None where nothing was ranked.
        bonus: what memory added to each, in nats; None where it added nothing.
        thought: what was thought before; may be empty.
        token_ids: what was written for it, thought included; empty where it was picked.
        logprobs: the log-probability of each of these tokens, as far as they are known.
        usage: what that took.
        invalid: whether no admissible command could be read in it; it is played as it stands.

    Raises ValueError if the command is none of the candidates and not said to be invalid, or not each of these has its
    score.
    """

    command: str
    candidates: list[str] = field(default_factory=list)
    scores: list[float] | None = None
    bonus: list[float] | None = None
    thought: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    usage: Usage = NO_USAGE
    invalid: bool = False

    def __post_init__(self) -> None:
        if self.candidates and self.command not in self.candidates and not self.invalid:
            raise ValueError(f"{self.command!r} is none of the {len(self.candidates)} commands that were offered")
        for numbers in (self.scores, self.bonus):
            if numbers is not None and len(numbers) != len(self.candidates):
                raise ValueError(f"{len(numbers)} numbers for {len(self.candidates)} commands")

    @property
    def logprob(self) -> float | None:
        """The log-probability of the command, or of all that was written for it; None where it is not known."""
        if self.scores is not None:
            return self.scores[self.candidates.index(self.command)]
        return sum(self.logprobs) if self.logprobs else None


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

    @property
    def reading(self) -> Reading | None:
        """What was read in the observation, if anything was."""
        return read_by(self.steps[-1]) if self.steps else read_at_start(self.goal, self.observation, self.state)

    def admissible(self) -> list[str] | None:
        """The commands that may be chosen now; None if any text is taken.

        Raises EnvironmentDied if there are none although the game goes on.
        """
        commands: list[str] | None = self.info["admissible_commands"]
        if commands is not None and not commands:
            raise EnvironmentDied(
                f"The environment `{self.env.env_id}` gave no admissible command although the game goes on; "
                "`agentlab doctor` checks the environment."
            )
        return commands

    def listed(self) -> list[str]:
        """The commands that may be chosen now. Raises NoCommands where any text is taken."""
        commands = self.admissible()
        if commands is None:
            must_not_have_listed(self.env.env_id, self.steps)
            raise NoCommands(
                f"`{self.env.env_id}` takes any text and lists no commands, so there is nothing to explore or to "
                "search among; play it with an actor that writes."
            )
        return commands

    def step(self, decision: Decision, cut: int = 0, note: str = "") -> Step:
        """Send the command to the environment; the step that came of it, which is the last of `steps`.

        `cut` characters of the observation were left out where it was decided, and `note` stood beside it.
        """
        with failures.environment(self.task.env):
            result, reward, terminated, truncated, after = self.env.step(decision.command)
        # Without validation: the environment's answers were checked where they came in (environments.answers).
        step = Step.model_construct(
            index=len(self.steps),
            observation=self.observation,
            cut=cut,
            state=self.state,
            admissible=decision.candidates,
            action=decision.command,
            result=result,
            next_state=after["state"],
            reward=float(reward),
            score=float(after["score"]),
            logprob=decision.logprob,
            scores=_recorded(decision.scores),
            bonus=decision.bonus,
            note=note,
            thought=decision.thought,
            invalid=decision.invalid,
            token_ids=decision.token_ids,
            logprobs=decision.logprobs,
        )
        self.steps.append(step)
        self.observation, self.info = result, dict(after)
        self.ended = bool(terminated or truncated)
        return step


def ending(info: Mapping[str, Any]) -> Status | None:
    """How the game ended; None while it goes on (or was cut short)."""
    return "won" if info["won"] else "lost" if info["lost"] else None


def must_not_have_listed(env_id: str, steps: Sequence[Step]) -> None:
    """Raise EnvironmentDied if an environment that lists no commands now did earlier in the game: then this game is
    lost, and says nothing about others."""
    if any(step.admissible for step in steps):
        raise EnvironmentDied(
            f"The environment `{env_id}` listed commands, and now none although the game goes on; `agentlab doctor` "
            "checks the environment."
        )


def _recorded(scores: Sequence[float] | None) -> list[float | None] | None:
    """Scores as a step keeps them: none of what was left without one."""
    return None if scores is None else [score if score > -math.inf else None for score in scores]
