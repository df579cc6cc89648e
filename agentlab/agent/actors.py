"""Actors: who decides what is done next, from what may be seen of an episode.

The episode, its memory and its records know nothing of which one plays. Ranking is the usual one (score every command,
add what memory advises, choose by the policy); random play is the floor of every table; one's own is a class with a
name and a method `act`, which an arm names: `Arm("mine", actor=Mine())`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from agentlab import failures
from agentlab.agent.policy import Policy
from agentlab.engines.base import Conversation, Scores, Turn, TurnRequest
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError, NoCommands
from agentlab.trajectories.transition import Decision, must_not_have_listed
from memory.prompts import Prompting
from memory.records import Step, Usage


@dataclass(frozen=True)
class View:
    """What an actor may see when it is to act.

    Attributes:
        env: the environment's id.
        goal: the task in words.
        observation: what the environment said last.
        state: the situation, as far as a player can know it.
        commands: the admissible ones, sorted; None where the environment takes any text.
        conversation: the transcript up to here, memory block included, as the model reads it.
        model: who may be asked; None in an arm that plays without one.
        steps: what was done so far.
        trial: how often the task was tried before.
        policy: how the arm wants commands to be chosen.
        rng: the random numbers of this step; an episode that is resumed draws the same.
        advise: what memory adds to some commands, in nats; see `action_priors`.
    """

    env: str
    goal: str
    observation: str
    state: str
    commands: Sequence[str] | None
    conversation: Conversation
    model: Model | None = None
    steps: Sequence[Step] = ()
    trial: int = 0
    policy: Policy = field(default_factory=Policy)
    rng: random.Random = field(default_factory=random.Random)
    advise: Callable[[Sequence[str]], list[float]] | None = None

    @property
    def greedy(self) -> bool:
        """Whether the policy takes the best command, and draws none."""
        return self.policy.temperature_at(self.trial) <= 0

    def score(self, commands: Sequence[str], bonus: Sequence[float] = ()) -> Scores:
        """The model's log-probability of each command. Raises EngineFailed.

        With `bonus`, a number for each, only that with the largest sum is asked for: of very many commands those that
        are behind may be left at minus infinity.
        """
        if self.model is None:
            raise AgentLabError("This arm plays without a model, so nothing is scored; leave its `engine` at 'model'.")
        return scored(self.model, self.conversation, commands, bonus)

    def write(self, commands: Sequence[str] | None, **asked: Any) -> Turn:
        """The model's next turn, as of a `TurnRequest`. Raises EngineFailed."""
        if self.model is None:
            raise AgentLabError("This arm plays without a model, so nothing is written; leave its `engine` at 'model'.")
        with failures.engine(self.model.name):
            return self.model.write_turn(TurnRequest(self.conversation, commands, **asked))

    def action_priors(self, commands: Sequence[str]) -> list[float]:
        """What memory adds to each command here, in nats; what is asked about counts as recalled."""
        return [0.0] * len(commands) if self.advise is None else self.advise(commands)


@runtime_checkable
class Actor(Protocol):
    """Decides. One actor plays many episodes at once, so what it knows of an episode it takes from the view.

    `name` tells its arms apart. What is set otherwise in one of the same name should be a field of a dataclass: then
    episodes of the one are not taken for those of the other.
    """

    @property
    def name(self) -> str: ...

    def act(self, view: View) -> Decision:
        """The next command, and what it was chosen by. The same view should give the same decision."""
        ...


@runtime_checkable
class Prompted(Protocol):
    """An actor that has the model write: what memory knows of a command is then said in words."""

    @property
    def prompting(self) -> Prompting:
        """How it wants the model to read an episode, where the model can."""
        ...


@runtime_checkable
class CommandSource(Protocol):
    """Proposes commands where an environment lists none."""

    @property
    def name(self) -> str: ...

    def commands(self, view: View) -> Sequence[str]:
        """What may be tried now, without repetitions; at least one."""
        ...


@dataclass(frozen=True)
class RankingActor:
    """Scores every command with the model, adds the action priors of memory, and lets the policy choose.

    `source` proposes commands where the environment lists none.
    """

    source: CommandSource | None = None
    name: str = "ranking"

    def act(self, view: View) -> Decision:
        commands = offered(view, self.source)
        bonus = view.action_priors(commands)
        scores = view.score(commands, bonus if view.greedy else ())
        return chosen(view, commands, scores.logprobs, scores.usage, bonus)


@dataclass(frozen=True)
class RandomActor:
    """Finds every command equally likely: the floor of every table. It asks no model."""

    name: str = "random"

    def act(self, view: View) -> Decision:
        commands = offered(view, None)
        return chosen(view, commands, [-math.log(len(commands))] * len(commands), Usage(), view.action_priors(commands))


def offered(view: View, source: CommandSource | None) -> list[str]:
    """The commands to choose from.

    Raises NoCommands where the environment lists none and nobody else does, EnvironmentDied where it did before.
    """
    if view.commands is not None:
        return list(view.commands)
    if source is None:
        must_not_have_listed(view.env, view.steps)
        raise NoCommands(
            f"`{view.env}` takes any text and lists no commands, so there is nothing to choose from; play it with an "
            "actor that writes, or with `RankingActor(source)`, whose source proposes commands."
        )
    return list(source.commands(view))


def chosen(view: View, commands: list[str], scores: list[float], usage: Usage, bonus: list[float]) -> Decision:
    """The decision for the command that the policy picks by these log-probabilities and the action priors `bonus`."""
    at = view.policy.choose(scores, bonus, view.trial, view.rng)
    return Decision(commands[at], commands, scores, bonus=bonus if any(bonus) else None, usage=usage)


def scored(model: Model, conversation: Conversation, commands: Sequence[str], bonus: Sequence[float] = ()) -> Scores:
    """The model's log-probability of each command, as of `Model.score`. Raises EngineFailed."""
    with failures.engine(model.name):
        return model.score(conversation, commands, bonus=bonus)
