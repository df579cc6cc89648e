"""Advantages of episodes that were played alike: of whole ones, of their steps, and rewards that are shaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

EPSILON = 1e-4
"""What is added to a standard deviation before it divides, as TRL does."""


def group_relative(rewards: Sequence[float | None]) -> list[float]:
    """Group-relative advantages (Shao et al. 2024, GRPO, §4.1.2): (r − mean) / (standard deviation + EPSILON).

    The deviation is that of a sample (n − 1). What has no reward (None) counts for nothing, and has no advantage; nor
    has anything in a group of one.
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in known) / (len(known) - 1))
    return [0.0 if reward is None else (reward - mean) / (deviation + EPSILON) for reward in rewards]


def discounted(rewards: Sequence[float], discount: float) -> list[float]:
    """The discounted return of each step: Σ γᵏ·r(t + k) over what follows it, itself included."""
    found, after = [], 0.0
    for reward in reversed(rewards):
        after = reward + discount * after
        found.append(after)
    return found[::-1]


def step_relative(
    states: Sequence[Sequence[str]], rewards: Sequence[Sequence[float]], discount: float
) -> list[list[float]]:
    """Step-level group-relative advantages (Feng et al. 2025, GiGPO, §4.2), one a step of each episode of a group.

    `states` names where each step was taken from, `rewards` what it earned. Steps from the same state (an anchor) are a
    group of their own, whichever episodes they belong to: each is compared by its discounted return. A state that was
    come by once gives 0.
    """
    returns = [discounted(earned, discount) for earned in rewards]
    groups: dict[str, list[tuple[int, int]]] = {}
    for episode, visited in enumerate(states):
        for step, state in enumerate(visited):
            groups.setdefault(state, []).append((episode, step))
    found = [[0.0] * len(visited) for visited in states]
    for places in groups.values():
        compared = group_relative([returns[episode][step] for episode, step in places])
        for (episode, step), advantage in zip(places, compared, strict=True):
            found[episode][step] = advantage
    return found


def advantages(
    states: Sequence[Sequence[str]],
    rewards: Sequence[Sequence[float] | None],
    *,
    bonus: Sequence[float] = (),
    step_weight: float = 0.0,
    discount: float = 1.0,
) -> list[list[float]]:
    """The advantage of each step of each episode of a group: A(episode) + ω·A(step), ω being `step_weight`.

    `rewards` are those of its steps (None for an episode that came to no end: it has no advantage), `bonus` what is
    added to that of a whole episode.
    """
    extra = bonus or [0.0] * len(states)
    whole = group_relative(
        [None if earned is None else math.fsum(earned) + more for earned, more in zip(rewards, extra, strict=True)]
    )
    ended = [at for at, earned in enumerate(rewards) if earned is not None]
    found = [[advantage] * len(visited) for advantage, visited in zip(whole, states, strict=True)]
    if step_weight:
        earned = [reward for reward in rewards if reward is not None]
        for at, of_steps in zip(ended, step_relative([states[at] for at in ended], earned, discount), strict=True):
            found[at] = [whole[at] + step_weight * advantage for advantage in of_steps]
    return found


def improvement(totals: Sequence[float | None], weight: float) -> list[float]:
    """What each attempt at a game is rewarded beside its reward: α·(r(k) − r(k−1)) (Kumar et al. 2024, SCoRe, §5.2).

    `totals` are the rewards of the attempts, in order. The first has nothing to be better than; nor has one after an
    attempt that came to no end.
    """
    found = [0.0]
    for earlier, later in pairwise(totals):
        found.append(0.0 if earlier is None or later is None else weight * (later - earlier))
    return found[: len(totals)]
