"""Cheap exploration: a random policy with memory, no model. Forward passes cost; trying things does not.

A trial mostly goes back to where the best score so far was reached, by the same commands without the loops among them,
and is random from there (Go-Explore, Ecoffet et al. 2021: first return, then explore). So a game that pays on the way
is won piece by piece, however long it is; one that only pays at its end is tried from its beginning. What ended a trial
in a loss is put off wherever as much has been scored: what is wrong at one stage of a task is wrong in every room. Of
many commands those are likelier that are few of their kind, or are named by the task.

It calls no tools: a game does not move by a call, so that it only costs a step. What a call is worth, and where, is
found afterwards, in what was won (`agentlab.search.calls`).

The loop is bare on purpose (no graph, no checkpoints): a trial takes milliseconds, and after a kill the task is simply
played again from its seed.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from math import exp, log

from agentlab.agent.arms import RANDOM
from agentlab.agent.policy import Policy
from agentlab.trajectories.advice import AdviceBook, facts_of
from agentlab.trajectories.refinement import named
from agentlab.trajectories.tool_uses import tool_uses
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import Tried, kind_of
from environments import Task, TextEnv
from environments.tools import WithTools
from memory.records import Episode, Step, content_id
from memory.text import words

RETURNS = 0.8
"""How many trials begin by going back. Not all: the best score may lie in a dead end."""

KINDS = 0.75
"""How often a command's kind, its first word, is drawn before it, each as likely. Where hundreds are listed, most are
of few kinds; but where most of what there is to do is to go somewhere, kinds alone would have it stand still."""

NAMED = 3.0
"""In nats, by how much likelier than others of its kind a command is all of whose words the task has."""

LOST = -4.0
"""In nats, for each earlier trial that a command ended in a loss where as much had been scored, in whatever state."""


@dataclass(frozen=True)
class RandomExploration:
    """What came of it: the last episode (the success, if there was one), trials used, and all facts."""

    episode: Episode
    trials: int
    book: AdviceBook


def random_exploration(
    env: TextEnv, task: Task, *, run: str, trials: int = 30, seed: int = 0, policy: Policy | None = None
) -> RandomExploration:
    """Try a task at random until it is won, at most `trials` times, guided by what the earlier trials showed."""
    policy = policy or Policy(temperature=1.0, retry_temperature=1.0, growth=0.0)
    known = _Known()
    for trial in range(trials):
        episode = _trial(env, task, run, trial, seed, policy, known)
        known.learn(episode)
        if episode.won:
            break
    return RandomExploration(episode, trial + 1, known.book)


@dataclass
class _Known:
    """What the trials at a task have shown.

    Attributes:
        book: the facts of all their steps.
        lost: how often each command ended one in a loss, by the score at which it did.
        best: the best score so far.
        path: the commands that lead to where it was first reached, loops left out.
    """

    book: AdviceBook = field(default_factory=AdviceBook)
    lost: Counter[tuple[float, str]] = field(default_factory=Counter)
    best: float = 0.0
    path: list[str] = field(default_factory=list)

    def learn(self, episode: Episode) -> None:
        for fact in facts_of(episode.steps, lost=episode.status == "lost"):
            self.book.add(fact)
        scores = [0.0, *(step.score for step in episode.steps)]
        if episode.status == "lost" and episode.steps:
            self.lost[scores[-2], episode.steps[-1].action] += 1
        best = max(scores)
        path = _without_loops(episode.steps[: scores.index(best)])
        if (best, -len(path)) > (self.best, -len(self.path)):
            self.best, self.path = best, path


def _without_loops(steps: Sequence[Step]) -> list[str]:
    path = list[Step]()
    for step in steps:
        while any(step.state == before.state for before in path):
            path.pop()
        path.append(step)
    return [step.action for step in path]


def _trial(env: TextEnv, task: Task, run: str, trial: int, seed: int, policy: Policy, known: _Known) -> Episode:
    """One trial: back along the best path as far as its commands are listed, if it goes back at all, then at random."""
    rng = random.Random(f"{task.id}|babble|{trial}|{seed}")
    back = iter(known.path if known.path and rng.random() < RETURNS else ())
    began = time.perf_counter()
    game = Game(env, task)
    episode = Episode(
        id=content_id("ep", run, "babble", task.id, trial, seed),
        run=run,
        env=task.env,
        split=task.split,
        seed=task.seed,
        trial=trial,
        arm=RANDOM.name,
        engine="random",
        temperature=policy.temperature_at(trial),
        rng_seed=seed,
        goal=game.goal,
    )
    tried, asked = Tried(), words(game.goal)
    while not game.ended:
        listed, state = game.listed(), game.state
        commands = [one for one in listed if not _is_call(env, one)] or listed
        action = next(back, None)
        if action not in commands:
            back = iter(())
            score = game.steps[-1].score if game.steps else 0.0
            advice = known.book.bonuses(state, commands, policy.weights, tried.times(state, commands))
            costs = tried.costs(state, commands, policy.weights)
            bonus = [
                policy.scale_at(trial) * extra + cost + LOST * known.lost[score, one]
                for one, extra, cost in zip(commands, advice, costs, strict=True)
            ]
            action = commands[policy.choose(_log_chances(commands, asked), bonus, trial, rng)]
        tried.observe(game.step(Decision(action, listed)))
    episode.steps, episode.score, episode.tools = game.steps, game.score, tool_uses(env)
    episode.status = game.status or "truncated"
    episode.seconds = round(time.perf_counter() - began, 4)
    return episode


def _log_chances(commands: Sequence[str], asked: Set[str]) -> list[float]:
    """The log-probability of each command, where nothing was tried; `asked` are the words of the task."""
    kinds = [kind_of(one) for one in commands]
    weights = [exp(NAMED * named(one, asked)) for one in commands]
    of_kind = defaultdict[str, float](float)
    for kind, weight in zip(kinds, weights, strict=True):
        of_kind[kind] += weight
    whole = sum(weights)
    return [
        log(weight * ((1 - KINDS) / whole + KINDS / len(of_kind) / of_kind[kind]))
        for kind, weight in zip(kinds, weights, strict=True)
    ]


def _is_call(env: TextEnv, command: str) -> bool:
    return isinstance(env, WithTools) and env.is_call(command)
