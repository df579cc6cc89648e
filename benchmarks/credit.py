"""Does credit find what helps, and leave alone what does no harm? Simulated, with the effect of every item known.

    python benchmarks/credit.py [--episodes N] [--repetitions N] [--stored N] [--runs N] > benchmarks/results/credit.md

A world has 40 items: a tenth harmful, half junk without any effect, the rest helpful by various amounts. Each episode's
query fits 8 of them, at random; 3 are chosen, by relevance and a Thompson sample of their uplift, each is held out with
the default probability, and the episode is won with probability base + the sum of the effects of what was served. Every
200 episodes credit is reviewed, and what is credibly harmful is benched. Without credit the 3 most relevant are
served.

Repetitions are different worlds. `--stored` of them go through `ReflectionMemory`, `Credit` and SQLite; all are also
run by a loop that keeps its counts in arrays and calls the same estimators and the same lots, which must decide every
episode alike. Beside that, single items are served or held out at random in 600 episodes each and reviewed after every
fifth: how many are benched at some time, of those that do no harm and of those that do?

The exit code is 1 if worlds are decided unlike, or one of these does not hold: AUC of the ranking by uplift at least
0.93 (helpful against the rest) and 0.9 (harmful against the rest), intervals that cover the true effects at least at
their rate, more success with credit than without, a cost of holding out within its bound, and at most 0.05 of the items
that do no harm ever benched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
from benching import EVERY, LOOKED, single_items
from credit_world import (
    BASE,
    EFFECT,
    HARMFUL,
    ITEMS,
    JUNK,
    STORED,
    Course,
    World,
    alike,
    play,
    simulate,
)
from machine import describe

from memory.credit import CreditConfig, Uplift, estimate, moments
from trainers.gate import mcnemar, wilson

NOTES = """
How to read it:

- AUC is the mean over the worlds; single worlds reach less. It is the cost of holding out that bounds what can be
  learned: three items of +0.15 cost 0.045 an episode at the default probability, so that they draw lots in less than
  half of the episodes. What harms is hardly chosen any more once it looks harmful, so that it stays less well known,
  and is seldom benched: in these worlds choosing keeps it out, not benching.
- The intervals hold their rate over the items of a world, which is what a posterior promises. By kind of item they do
  not: Thompson sampling looks away from what began unluckily, and the prior pulls to 0, so the helpful ones are covered
  a little less often, the useless ones more.
- The greatest cost passes its bound by little, since the cost so far is taken at each review, and judged by what is
  known then.
- Benching asks an e-process (`memory.credit`) beside the posterior. The last column is what the posterior alone would
  have benched of items without any effect: looked at so often, it errs far more often than it says."""


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive item has the greater score than another one; equal scores count half."""
    difference = scores[positive][:, None] - scores[~positive]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean over repetitions with its 95 % interval (normal)."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    z = NormalDist().inv_cdf(0.975)
    return mean, mean - z * error, mean + z * error


def shown(values: Sequence[float], digits: int = 3) -> str:
    """The same as text."""
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*mean_interval(values), d=digits)


@dataclass
class Findings:
    """What came of all repetitions: as a table, as the figures that claims are made of, and whether those hold."""

    lines: list[str]
    figures: dict[str, float]
    holds: dict[str, bool]


def findings(worlds: Sequence[World], on: Sequence[Course], off: Sequence[Course], config: CreditConfig) -> Findings:
    """Compare what credit found with what is true."""
    truth = np.stack([world.effects for world in worlds])
    found = [
        [estimate(counts[None], np.array([course.base]), config.prior, config.level) for counts in course.counts]
        for course in on
    ]
    means = np.array([[uplift.mean for uplift in row] for row in found])
    helpful = [auc(row, effect > 0) for row, effect in zip(means, truth, strict=True)]
    harmful = [auc(-row, effect < 0) for row, effect in zip(means, truth, strict=True)]
    covered = _each(found, lambda uplift: uplift.low) <= truth
    covered &= truth <= _each(found, lambda uplift: uplift.high)
    benched = np.stack([course.benched for course in on])
    rate = covered.mean(1)
    centre, low, high = mean_interval(rate)
    picks = np.random.default_rng(0).integers(ITEMS, size=len(worlds))
    single = int(covered[np.arange(len(worlds)), picks].sum())
    last = max(1, len(worlds[0].luck) // 10)
    better = sum(one.won.sum() > other.won.sum() for one, other in zip(on, off, strict=True))
    worse = sum(one.won.sum() < other.won.sum() for one, other in zip(on, off, strict=True))
    costs, true_costs, held = zip(*(_costs(*both, config) for both in zip(worlds, on, strict=True)), strict=True)
    clipped = np.mean([
        np.mean((raw < 0) | (raw > 1)) for raw in (
            BASE + (world.effects[course.chosen] * ((course.chosen >= 0) & ~course.held_out)).sum(-1)
            for world, course in zip(worlds, on, strict=True)
        )
    ])  # fmt: skip
    lines = [
        "| what | value |",
        "|---|---|",
        f"| AUC of the ranking by uplift, helpful against the rest | {shown(helpful)}, least {min(helpful):.3f} |",
        f"| AUC, harmful against the rest | {shown(harmful)}, least {min(harmful):.3f} |",
        f"| coverage of the {config.level:.0%} intervals, all items | {centre:.4f} [{low:.4f}, {high:.4f}] |",
        f"| … one item at random of each repetition | {single}/{len(worlds)}, Wilson "
        "[{:.3f}, {:.3f}] |".format(*wilson(single, len(worlds))),
        *(
            f"| … {name} items | {covered[which].mean():.4f} of {which.sum()} |"
            for name, which in (
                ("helpful", truth > 0), ("junk", truth == 0), ("harmful", truth < 0), ("benched", benched)
            ) if which.any()
        ),
        f"| success, all episodes: with credit | {shown([course.won.mean() for course in on], 4)} |",
        f"| … without | {shown([course.won.mean() for course in off], 4)} |",
        f"| success, last tenth: with credit | {shown([course.won[-last:].mean() for course in on], 4)} |",
        f"| … without | {shown([course.won[-last:].mean() for course in off], 4)} |",
        f"| repetitions (same world, queries and luck) better with credit, worse | {better}, {worse}; exact p "
        f"{mcnemar(int(better), int(worse)):.2g} |",
        f"| cost of holding out, estimated | {shown(costs, 4)}, greatest {max(costs):.4f}; bound {config.max_cost} |",
        f"| … true | {shown(true_costs, 4)} |",
        f"| items held out, of all chosen | {np.mean(held):.4f} |",
        *(
            f"| benched of the {name} | {benched[which].mean():.3f} of {which.sum()} |"
            for name, which in (("harmful", truth < 0), ("junk", truth == 0), ("helpful", truth > 0))
        ),
        f"| episodes whose probability was cut at 0 or 1 | {clipped:.5f} |",
    ]  # fmt: skip
    figures = {
        "AUC, helpful": float(np.mean(helpful)),
        "AUC, harmful": float(np.mean(harmful)),
        "coverage": centre,
        "better": better / max(1, better + worse),
        "p": mcnemar(int(better), int(worse)),
        "cost": float(np.mean(costs)),
    }
    holds = {
        "AUC, helpful against the rest": figures["AUC, helpful"] >= 0.93,
        "AUC, harmful against the rest": figures["AUC, harmful"] >= 0.9,
        "coverage": round(centre, 4) >= config.level,
        "success": figures["better"] > 0.5 and figures["p"] < 0.01,
        "cost": figures["cost"] <= config.max_cost,
    }
    return Findings(lines, figures, holds)


def _each(found: list[list[Uplift]], part: Callable[[Uplift], float]) -> np.ndarray:
    return np.array([[part(uplift) for uplift in row] for row in found])


def _costs(world: World, course: Course, config: CreditConfig) -> tuple[float, float, float]:
    """The estimated and the true cost of holding out, as shares of the episodes, and the share held out."""
    mean, _ = moments(course.counts, course.base, config.prior)
    lost = float((course.counts[:, 2] * np.maximum(mean, 0)).sum())
    true = float(np.where(course.held_out, np.maximum(world.effects[course.chosen], 0), 0).sum())
    n = len(course.won)
    return lost / n, true / n, float(course.held_out.sum() / (course.chosen >= 0).sum())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 1 if something does not hold."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--episodes", type=int, default=10_000, help="in each world")
    options.add_argument("--repetitions", type=int, default=200, help="how many worlds")
    options.add_argument("--stored", type=int, default=2, help="how many of them also go through memory and SQLite")
    options.add_argument("--runs", type=int, default=2000, help="how many single items of each kind")
    given = options.parse_args(arguments)
    config = CreditConfig()
    worlds = [World.made(seed, given.episodes) for seed in range(given.repetitions)]
    print("# Does credit find what helps?\n")
    command = f"python benchmarks/credit.py --repetitions {given.repetitions} --stored {given.stored}"
    print(f"Made on {date.today()} by `{command}` on {describe(1)}.\n")
    print(
        f"{given.repetitions} worlds of {given.episodes} episodes with the default settings ({config}): {HARMFUL} "
        f"items are harmful, {JUNK} without effect, {ITEMS - HARMFUL - JUNK} helpful, by {EFFECT[0]} to {EFFECT[1]}, "
        f"at a rate of {BASE}. Intervals in brackets are over the worlds, at 95 %.\n"
    )
    began = time.perf_counter()
    on, off = list(simulate(worlds, config)), list(simulate(worlds, config, credit=False))
    seconds = time.perf_counter() - began
    result = findings(worlds, on, off, config)
    print("\n".join(result.lines))
    began, same = time.perf_counter(), 0
    kept = [World.made(seed, min(given.episodes, STORED)) for seed in range(given.stored)]
    for world, course in zip(kept, simulate(kept, config) if kept else [], strict=True):
        with tempfile.TemporaryDirectory() as folder:
            same += alike(play(world, Path(folder), config), course)
    length = min(given.episodes, STORED)
    print(f"| worlds that SQLite decided alike in each of {length} episodes | {same} of {len(kept)} |")
    each = 1000 * (time.perf_counter() - began) / max(1, sum(len(world.luck) for world in kept))
    print(f"\nArrays took {seconds:.0f} s; memory and SQLite {each:.2f} ms an episode.")
    result.holds["SQLite decides alike"] = same == given.stored
    lines, worst = single_items(given.runs, config)
    print(f"\n## Benched at some time in {LOOKED} episodes\n")
    print(f"Shares of {given.runs} items each, reviewed after every {EVERY}th episode.\n")
    print("\n".join(lines))
    result.holds["false benching"] = worst <= 0.05
    print(NOTES)
    for name in (name for name, holds in result.holds.items() if not holds):
        print(f"Does not hold: {name}.")
    return 0 if all(result.holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
