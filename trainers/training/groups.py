"""What on-policy training is given and gives: games for each step, episodes compared by groups, what was learned."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from memory.records import Episode
from trainers.config import OnPolicyConfig
from trainers.data.records import Trajectory
from trainers.objectives.advantages import advantages, improvement
from trainers.training.canary import Canary
from trainers.training.job_data import Report

Group = list[list[Episode]]
"""The episodes of one game: of each member of the group its attempts, in order."""


Play = Callable[[int, list[int], Path | None], list[Group]]
"""Plays for a step (counted from 0) these games, by their places, with the adapter in a folder (None: the base)."""


class Learned(NamedTuple):
    """What came of on-policy training: an adapter that is ready to be written, and what it learned from."""

    save_adapter: Callable[[Path], None]
    canary: Canary
    report: Report
    records: list[Trajectory]


def plan(games: int, steps: int, each: int, seed: int) -> list[list[int]]:
    """Which of `games` games are played for each step: `each` of them, none twice, all in turn, in ever new orders."""
    lots, waiting, planned = random.Random(f"on-policy|{seed}"), list[int](), []
    for _ in range(steps):
        chosen: list[int] = []
        while len(chosen) < each:
            if not waiting:
                waiting = lots.sample(range(games), games)
            place = next(at for at in reversed(range(len(waiting))) if waiting[at] not in chosen)
            chosen.append(waiting.pop(place))
        planned.append(chosen)
    return planned


def rewards_of(episode: Episode, reward: str) -> list[float] | None:
    """What each step of an episode earned: 1 for the one that won, or what the score rose by; None if it errored."""
    if episode.status == "errored" or not episode.steps:
        return None
    if reward == "won":
        return [0.0] * (len(episode.steps) - 1) + [float(episode.won)]
    scores = [0.0, *(step.score for step in episode.steps)]
    return [after - before for before, after in pairwise(scores)]


def anchors(episode: Episode) -> list[str]:
    """Where each step was taken from, as far as a player can tell: the state, and what was last observed."""
    return [f"{step.state}\n{step.observation}" for step in episode.steps]


class Scored(NamedTuple):
    """An episode that was played for a step, with its reward (None: it errored) and the advantages of its steps."""

    episode: Episode
    reward: float | None
    advantages: list[float]


def scored(group: Group, settings: OnPolicyConfig) -> list[Scored]:
    """The episodes of one game, each attempt compared with those of the other members, in the order of the group."""
    earned = [[rewards_of(episode, settings.reward) for episode in member] for member in group]
    totals = [[None if one is None else math.fsum(one) for one in member] for member in earned]
    bonus = [improvement(member, settings.improvement) for member in totals]
    found: list[list[Scored]] = [[] for _ in group]
    for attempt in range(settings.attempts):
        played = [member[attempt] for member in group]
        of_steps = advantages(
            [anchors(episode) for episode in played],
            [member[attempt] for member in earned],
            bonus=[member[attempt] for member in bonus],
            step_weight=settings.step_weight,
            discount=settings.discount,
        )
        for at, episode in enumerate(played):
            total = totals[at][attempt]
            found[at].append(Scored(episode, None if total is None else total + bonus[at][attempt], of_steps[at]))
    return [one for member in found for one in member]
