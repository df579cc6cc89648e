"""Cheap exploration: a random policy with memory, no model. Forward passes cost; trying things does not.

It calls no tools: a game does not move by a call, so that it only costs a step. What a call is worth, and where, is
found afterwards, in what was won (`agentlab.search.calls`).

The loop is bare on purpose (no graph, no checkpoints): a trial takes milliseconds, and after a kill the task is simply
played again from its seed.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from agentlab.agent.arms import RANDOM
from agentlab.agent.policy import Policy
from agentlab.trajectories.advice import AdviceBook, facts_of
from agentlab.trajectories.tool_uses import tool_uses
from agentlab.trajectories.transition import Decision, Game
from agentlab.trajectories.tried import Tried
from environments import Task, TextEnv
from environments.tools import WithTools
from memory.records import Episode, content_id


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
    book = AdviceBook()
    for trial in range(trials):
        episode = _trial(env, task, run, trial, seed, policy, book)
        for fact in facts_of(episode.steps, lost=episode.status == "lost"):
            book.add(fact)
        if episode.won:
            break
    return RandomExploration(episode, trial + 1, book)


def _trial(env: TextEnv, task: Task, run: str, trial: int, seed: int, policy: Policy, book: AdviceBook) -> Episode:
    rng = random.Random(f"{task.id}|babble|{trial}|{seed}")
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
        advice = book.bonuses(state, commands, policy.weights, tried.times(state, commands))
        costs = tried.costs(state, commands, policy.weights)
        bonus = [policy.scale_at(trial) * extra + cost for extra, cost in zip(advice, costs, strict=True)]
        chosen = policy.choose([0.0] * len(commands), bonus, trial, rng)
        tried.observe(game.step(Decision(commands[chosen], listed)))
    episode.steps, episode.score, episode.tools = game.steps, game.score, tool_uses(env)
    episode.status = game.status or "truncated"
    episode.seconds = round(time.perf_counter() - began, 4)
    return episode


def _is_call(env: TextEnv, command: str) -> bool:
    return isinstance(env, WithTools) and env.is_call(command)
