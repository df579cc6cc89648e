"""How often do gates promote what is not better, and how often what is? Simulated series of rounds.

    python benchmarks/gates.py [--labs N] [--rounds N] [--games N] > benchmarks/results/gates.md

A lab has two environments. Every game has its own chance of being won (Beta(1.5, 1.5)), and whoever plays it greedily
always ends it in the same way. A candidate plays half of the games as the incumbent does, and the others by a draw of
its own, whose chance is greater by its gain; a null candidate's is not. Round after round a candidate stands against
the incumbent at the tool's own gates (`trainers.gate`), fixed and sequential, and takes its place when it is promoted.

Three ways to hold the gates of a lab are compared: every round on new games, all challenges of one incumbent sharing
the error (what the tool does); every round on new games at alpha; and every round on the same games at alpha. The exit
code is 1 if with the first more than alpha of the labs promote anything in ten rounds of null candidates.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from machine import describe

from trainers.gate import GateConfig, GateResult, SequentialGate, decide, wilson

ENVS = ("one", "two")
SAME = 0.5
"""The share of games that a candidate plays as the incumbent does."""

ALONE, FRESH, SHARED = "same games, alpha each", "new games, alpha each", "new games, one error for all"
GAINS = (0.2, 0.4, 0.6)
EARLIER = (0, 1, 3, 9)


@dataclass(frozen=True)
class Games:
    """Games of each environment: how each can be won, and how the incumbent ends it, both (environments, games)."""

    chance: np.ndarray
    incumbent: np.ndarray

    @classmethod
    def drawn(cls, random: np.random.Generator, count: int) -> Games:
        """New games, played by the incumbent for the first time."""
        chance = random.beta(1.5, 1.5, (len(ENVS), count))
        return cls(chance, random.random(chance.shape) < chance)

    def played(self, random: np.random.Generator, gain: float) -> np.ndarray:
        """How a candidate ends them."""
        own = random.random(self.chance.shape) < np.clip(self.chance + gain, 0, 1)
        return np.where(random.random(self.chance.shape) < SAME, self.incumbent, own)


def gated(games: Games, candidate: np.ndarray, config: GateConfig, challenge: int) -> GateResult:
    """What the gate says, in as many blocks as it looks."""
    count = games.chance.shape[1]
    looks = config.looks if config.sequential else 1
    size = -(-count // looks)
    gate = SequentialGate(games.chance.size, config, challenge=challenge)
    for end in range(size, count + size, size):
        ours, theirs = (_results(won[:, :end]) for won in (candidate, games.incumbent))
        if not config.sequential:
            return decide(ours, theirs, config, challenge=challenge)
        result = gate.look(ours, theirs)
        if result is not None:
            return result
    raise AssertionError("a gate decides at the latest when everything is played")


def _results(won: np.ndarray) -> dict[str, bool | None]:
    return {f"{env}:dev:{seed}": bool(one) for env, row in zip(ENVS, won, strict=True) for seed, one in enumerate(row)}


def series(
    random: np.random.Generator, gains: Sequence[float], count: int, config: GateConfig, way: str
) -> Iterator[GateResult]:
    """The gates of one lab, whose candidates gain so much on what serves."""
    games, challenge = Games.drawn(random, count), 1
    for number, gain in enumerate(gains):
        if way != ALONE and number:
            games = Games.drawn(random, count)
        candidate = games.played(random, gain)
        result = gated(games, candidate, config, challenge if way == SHARED else 1)
        yield result
        challenge += 1
        if result.promote:
            games, challenge = Games(games.chance, candidate), 1


def false_promotions(way: str, labs: int, rounds: int, count: int, config: GateConfig) -> int:
    """How many labs promote anything in so many rounds of candidates that are not better."""
    return sum(
        any(result.promote for result in series(np.random.default_rng(seed), [0.0] * rounds, count, config, way))
        for seed in range(labs)
    )


def power(gain: float, earlier: int, labs: int, count: int, config: GateConfig) -> tuple[int, float]:
    """How many candidates of this gain are promoted after so many others were not, and the share of games played."""
    promoted, played = 0, 0.0
    for seed in range(labs):
        random = np.random.default_rng(10**6 + seed)
        games = Games.drawn(random, count)
        result = gated(games, games.played(random, gain), config, earlier + 1)
        promoted += result.promote
        played += 1 - result.saved / max(1, result.planned)
    return promoted, played / labs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if too much is promoted that is not better."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--labs", type=int, default=1000, help="how many series, and candidates, are simulated")
    options.add_argument("--rounds", type=int, default=10, help="in each series")
    options.add_argument("--games", type=int, default=20, help="of each environment at a gate")
    given = options.parse_args(arguments)
    began = time.perf_counter()
    gates = {"sequential": GateConfig(), "fixed": GateConfig(sequential=False)}
    print("# How often do gates promote what is not better?\n")
    print(f"Made on {date.today()} by `python benchmarks/gates.py --labs {given.labs}` on {describe(1)}.\n")
    print(
        f"{given.labs} simulated labs; gates of {len(ENVS)} × {given.games} games, alpha {GateConfig().alpha}. Wilson "
        "intervals at 95 %.\n"
    )
    print(f"Labs that promote anything in {given.rounds} rounds, none of whose candidates is better:\n")
    print("| gate | " + " | ".join((SHARED, FRESH, ALONE)) + " |\n|---|---|---|---|")
    holds = True
    for name, config in gates.items():
        found = [false_promotions(way, given.labs, given.rounds, given.games, config) for way in (SHARED, FRESH, ALONE)]
        holds &= found[0] <= config.alpha * given.labs
        print(f"| {name} | " + " | ".join(_rate(one, given.labs) for one in found) + " |")
    print("\nCandidates promoted that win more, by how many challenged the same incumbent before them:\n")
    print("| gate, gain on half of the games | " + " | ".join(f"after {n}" for n in EARLIER) + " | games played |")
    print("|---|" + "---|" * (len(EARLIER) + 1))
    for name, config in gates.items():
        for gain in GAINS:
            rows = [power(gain, earlier, given.labs, given.games, config) for earlier in EARLIER]
            cells = " | ".join(_rate(promoted, given.labs) for promoted, _ in rows)
            print(f"| {name}, {gain:+.1f} | {cells} | {rows[0][1]:.0%} |")
    print(f"\n{time.perf_counter() - began:.0f} s.")
    if not holds:
        print(f"Does not hold: at most {GateConfig().alpha} of the labs promote what is not better.")
    return 0 if holds else 1


def _rate(count: int, n: int) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(count / n, *wilson(count, n))


if __name__ == "__main__":
    sys.exit(main())
