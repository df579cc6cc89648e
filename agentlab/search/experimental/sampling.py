"""Searches that sample whole episodes: best-of-N, and the probes of Self-Explore.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from agentlab.search.walk import Player
from memory.records import Episode


def best_of_n(player: Player) -> Iterator[Episode]:
    """Independent episodes of the policy, without end. With advice they are not independent: each learns from those
    before, as the trials of Reflexion do."""
    for trial in count():
        yield rollout(player, [], "best of n", trial)


def self_explore(player: Player) -> Iterator[Episode]:
    """An episode that fails, and `probes` rollouts from each of its steps until all from one of them fail: the first
    pit (Hwang et al. 2024, Self-Explore, §3.2), which `pairs.first_pits` reads off the tree.

    Rollouts from the start come first. If none of them wins there is nothing to fall from, and the search ends.
    """
    for trial in count():
        episode = rollout(player, [], "sample", trial)
        yield episode
        if not episode.won:
            break
    for at in range(len(episode.steps)):
        wins = 0
        for probe in range(player.config.probes):
            probed = rollout(player, episode.actions[:at], "probe", at, probe)
            wins += probed.won
            yield probed
        if not wins:
            return


def rollout(player: Player, prefix: list[str], *what: object) -> Episode:
    """One episode: the actions of `prefix`, then the policy."""
    walk, rng = player.walk(), player.rng(*what)
    walk.follow(prefix)
    while not walk.ended:
        walk.step(player.sample(walk, rng))
    return player.keep(walk)
