"""A ladder of easier variants (LADDER, Simonds and Yoshiyama 2025): what is too hard to win is learned from below.

There a model writes variants of a problem and says how hard they are. Here a game's own parameters make it smaller, and
how hard a variant is, is measured: by how many of its games whoever explores has won.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from agentlab.agent.tasks import make_tasks
from agentlab.rounds.config import RoundConfig

if TYPE_CHECKING:
    from environments import Task

PROBED = 10
"""Games of a variant that say whether it is won often enough to play the others."""

ENOUGH = 1 / 3
"""The share of them that has to be won."""

Explore = Callable[[Sequence["Task"]], int]
"""Plays tasks; how many were won."""


def variants(env: str) -> Iterator[str]:
    """An environment, then its easier variants, each easier than the one before."""
    from environments import easier

    rung: str | None = env
    while rung is not None:
        yield rung
        rung = easier(rung)


def learned_from(config: RoundConfig) -> list[str]:
    """The environments whose successes a round learns from, each once."""
    return list(dict.fromkeys(rung for env in config.envs for rung in (variants(env) if config.ladder else [env])))


def climb(config: RoundConfig, number: int, explore: Explore) -> dict[str, int]:
    """Explore what round `number` is to explore; how many games were played, and how many won.

    With a ladder some games of each environment are played first, and where too few of them are won, some of the next
    easier variant instead of the others; the first that is won often enough, or the easiest, is played whole.
    """
    seeds = config.train_seeds(number)
    if not config.ladder:
        tasks = make_tasks(config.envs, "train", seeds)
        return {"tasks": len(tasks), "won": explore(tasks)}
    played = won = 0
    for env in config.envs:
        rungs = list(variants(env))
        for rung in rungs:
            tasks = make_tasks([rung], "train", seeds)
            first, others = tasks[:PROBED], tasks[PROBED:]
            here = explore(first)
            whole = here >= ENOUGH * len(first) or rung == rungs[-1]
            if whole and others:
                here += explore(others)
            played, won = played + (len(tasks) if whole else len(first)), won + here
            if whole:
                break
    return {"tasks": played, "won": won}
