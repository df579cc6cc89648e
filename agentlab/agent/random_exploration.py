"""Cheap exploration: a random policy with memory, no model. Forward passes cost; trying things does not.

A trial mostly goes back to where the best score so far was reached, by the same commands without the loops among them,
and is random from there (Go-Explore, Ecoffet et al. 2021: first return, then explore). So a game that pays on the way
is won piece by piece, however long it is; one that only pays at its end is tried from its beginning.

It calls no tools: a game does not move by a call, so that it only costs a step. What a call is worth, and where, is
found afterwards, in what was won (`agentlab.search.calls`).

The loop is bare on purpose (no graph, no checkpoints): a trial takes milliseconds, and after a kill the task is simply
played again from its seed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agentlab.agent.arms import RANDOM
from agentlab.agent.policy import Policy
from agentlab.trajectories.advice import AdviceBook, facts_of
from agentlab.trajectories.tool_uses import tool_uses
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import Tried
from environments import Task, TextEnv
from environments.tools import WithTools
from memory.records import Episode, Step, content_id

RETURNS = 0.8
"""How many trials begin by going back. Not all: the best score may lie in a dead end."""


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
    book, best, path = AdviceBook(), 0.0, list[str]()
    for trial in range(trials):
        episode = _trial(env, task, run, trial, seed, policy, book, path)
        for fact in facts_of(episode.steps, lost=episode.status == "lost"):
            book.add(fact)
        if episode.won:
            break
        best, path = max([(best, path), _best(episode)], key=lambda known: (known[0], -len(known[1])))
    return RandomExploration(episode, trial + 1, book)


def _best(episode: Episode) -> tuple[float, list[str]]:
    """The best score of an episode, and the commands that lead to where it was first reached, loops left out."""
    scores = [0.0, *(step.score for step in episode.steps)]
    best = max(scores)
    path = list[Step]()
    for step in episode.steps[: scores.index(best)]:
        while any(step.state == before.state for before in path):
            path.pop()
        path.append(step)
    return best, [step.action for step in path]


def _trial(
    env: TextEnv, task: Task, run: str, trial: int, seed: int, policy: Policy, book: AdviceBook, path: Sequence[str]
) -> Episode:
    """One trial: along `path` as far as its commands are still listed, if it goes back at all, then at random."""
    rng = random.Random(f"{task.id}|babble|{trial}|{seed}")
    back = iter(path if path and rng.random() < RETURNS else ())
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
    tried = Tried()
    while not game.ended:
        listed, state = game.listed(), game.state
        commands = [one for one in listed if not _is_call(env, one)] or listed
        action = next(back, None)
        if action not in commands:
            back = iter(())
            advice = book.bonuses(state, commands, policy.weights, tried.times(state, commands))
            costs = tried.costs(state, commands, policy.weights)
            bonus = [policy.scale_at(trial) * extra + cost for extra, cost in zip(advice, costs, strict=True)]
            action = commands[policy.choose([0.0] * len(commands), bonus, trial, rng)]
        tried.observe(game.step(Decision(action, listed)))
    episode.steps, episode.score, episode.tools = game.steps, game.score, tool_uses(env)
    episode.status = game.status or "truncated"
    episode.seconds = round(time.perf_counter() - began, 4)
    return episode


def _is_call(env: TextEnv, command: str) -> bool:
    return isinstance(env, WithTools) and env.is_call(command)
