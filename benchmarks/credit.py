"""Does credit find what helps, and leave alone what does no harm? Simulated, with the effect of every item known.

    python benchmarks/credit.py [--episodes N] [--repetitions N] [--stored N] [--runs N] > benchmarks/results/credit.md

A world has 40 items: a tenth harmful, half junk without any effect, the rest helpful by various amounts. Each episode's
query fits 8 of them, at random; 3 are chosen, by relevance and a Thompson sample of their uplift, each is withheld with
the default probability, and the episode is won with probability base + the sum of the effects of what was served. Every
200 episodes credit is reviewed, and what is credibly harmful is benched. Without credit the 3 most relevant are
served.

Repetitions are different worlds. `--stored` of them go through `ReflectionMemory`, `Credit` and SQLite; all are also
run by a loop that keeps its counts in arrays and calls the same estimators and the same lots, which must decide every
episode alike. Beside that, single items are served or withheld by lot in 600 episodes each and reviewed after every
fifth: how many are benched at some time, of those that do no harm and of those that do?

The exit code is 1 if worlds are decided unlike, or one of these does not hold: AUC of the ranking by uplift at least
0.93 (helpful against the rest) and 0.9 (harmful against the rest), intervals that cover the true effects at least at
their rate, more success with credit than without, a cost of withholding within its bound, and at most 0.05 of the items
that do no harm ever benched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
from benching import EVERY, LOOKED, harmful, single_items
from machine import describe

from memory import Database, Episode, Recall, Reflection, ReflectionMemory, Weights
from memory.credit import Credit, CreditConfig
from memory.uplift import Uplift, estimate, moments, sample
from memory.withholding import draw_lots, uniforms
from trainers.statistics import mcnemar, wilson

ENV = "simulated/world"
ITEMS, HARMFUL, JUNK = 40, 4, 20
FOUND, CHOSEN = 8, 3
BASE, EFFECT = 0.35, (0.12, 0.2)
REVIEW = 200
STORED = 1500
"""How many episodes of a world go through memory and SQLite."""

COSINES = np.round(np.arange(FOUND, 0, -1) / np.sqrt((np.arange(FOUND + 1.0) ** 2).sum()), 4)
"""Of the items that a query fits, in the order in which it names them: the first one most often."""
RELEVANCE = 0.05
"""What a cosine of 1 weighs against an uplift of 1."""

NOTES = """
How to read it:

- AUC is the mean over the worlds; single worlds reach less. It is the cost of withholding that bounds what can be
  learned: three items of +0.15 cost 0.045 an episode at the default probability, so that they draw lots in less than
  half of the episodes. What harms is hardly chosen any more once it looks harmful, so that it stays less well known,
  and is seldom benched: in these worlds choosing keeps it out, not benching.
- The intervals hold their rate over the items of a world, which is what a posterior promises. By kind of item they do
  not: Thompson sampling looks away from what began unluckily, and the prior pulls to 0, so the helpful ones are covered
  a little less often, the useless ones more.
- The greatest cost passes its bound by little, since the cost so far is taken at each review, and judged by what is
  known then.
- Benching asks an e-process (`memory.eprocess`) beside the posterior. The last column is what the posterior alone would
  have benched of items without any effect: looked at so often, it errs far more often than it says."""


@dataclass(frozen=True)
class World:
    """What is true (`effects`, of each item), what is asked (`queries`, items by episode), and luck, by episode."""

    seed: int
    effects: np.ndarray
    queries: np.ndarray
    luck: np.ndarray

    @classmethod
    def made(cls, seed: int, episodes: int) -> World:
        """The world of this seed."""
        random = np.random.default_rng(seed)
        size = random.uniform(*EFFECT, ITEMS)
        sign = np.repeat([-1, 0, 1], [HARMFUL, JUNK, ITEMS - HARMFUL - JUNK])
        queries = np.argsort(random.random((episodes, ITEMS)), axis=1)[:, :FOUND].astype(np.int16)
        return cls(seed, size * sign, queries, random.random(episodes))

    def episode(self, number: int) -> str:
        return f"ep-{self.seed}-{number}"


@dataclass
class Course:
    """What happened in one world: for each episode who was chosen (-1: nobody), who withheld, whether it was won.

    `counts` (items, 4) is the evidence at the end, `base` the base rate that estimates were made with, `benched` which
    items were benched.
    """

    chosen: np.ndarray
    withheld: np.ndarray
    won: np.ndarray
    counts: np.ndarray
    base: float
    benched: np.ndarray


def item(number: int) -> str:
    """The id of an item."""
    return f"item-{number:02d}"


def probability(effects: np.ndarray) -> np.ndarray:
    """Of success, from the effects (…, CHOSEN) of what is served. Beyond 0 and 1 it is cut, which is rare."""
    return np.clip(BASE + effects.sum(-1), 0, 1)


# The loop over arrays, for all worlds at once


def simulate(worlds: Sequence[World], config: CreditConfig, *, credit: bool = True) -> Iterator[Course]:
    """The courses of `worlds`, with the counts in arrays."""
    some, episodes = np.arange(len(worlds))[:, None], len(worlds[0].luck)
    effects, queries, luck = (
        np.stack([getattr(world, name) for world in worlds]) for name in ("effects", "queries", "luck")
    )
    counts, benched = np.zeros((len(worlds), ITEMS, 4)), np.zeros((len(worlds), ITEMS), bool)
    base, exhausted = np.full(len(worlds), 0.5), np.zeros(len(worlds), bool)
    chosen = np.full((len(worlds), episodes, CHOSEN), -1, dtype=np.int16)
    withheld, won = np.zeros(chosen.shape, bool), np.zeros(chosen.shape[:2], bool)
    for number in range(episodes):
        found = queries[:, number]
        worth = np.where(benched[some, found], -np.inf, RELEVANCE * COSINES)
        drawn = np.zeros((len(worlds), CHOSEN), bool)
        if credit:
            seen = counts[some, found]
            worth += sample(seen, base[:, None], config.prior, _chances(worlds, number, found, seen, config))
        order = np.argsort(-worth, axis=1, kind="stable")[:, :CHOSEN]
        there = np.isfinite(worth[some, order])
        best = np.where(there, found[some, order], -1)
        if credit and config.withhold:
            mean, _ = moments(counts[some, best], base[:, None], config.prior)
            for place, world in enumerate(worlds):
                known = best[place][there[place]].tolist()
                if not exhausted[place]:
                    lots = draw_lots(
                        world.episode(number), [item(one) for one in known], mean[place, : len(known)].tolist(),
                        config.withhold, config.max_cost,
                    )  # fmt: skip
                    withheld[place, number, : len(lots)] = [lot.withheld for lot in lots]
                    drawn[place, : len(lots)] = [lot.propensity < 1 for lot in lots]
        held = withheld[:, number]
        won[:, number] = luck[:, number] < probability(effects[some, best] * (there & ~held))
        chosen[:, number] = best
        for side, which in ((0, drawn & ~held), (2, drawn & held)):
            np.add.at(counts, (some, best, side), which)
            np.add.at(counts, (some, best, side + 1), which & won[:, number, None])
        if credit and (number + 1) % REVIEW == 0:
            base = (won[:, : number + 1].sum(1) + 1) / (number + 3)
            mean, _ = moments(counts, base[:, None], config.prior)
            benched |= harmful(counts, base[:, None], 1 - config.withhold, config)
            lost = (counts[..., 2] * np.maximum(mean, 0)).sum(1)
            exhausted = lost / (number + 1) > config.max_cost
    for place in range(len(worlds)):
        yield Course(
            chosen[place], withheld[place], won[place], counts[place], float(base[place]), benched[place]
        )  # fmt: skip


def _chances(
    worlds: Sequence[World], number: int, found: np.ndarray, seen: np.ndarray, config: CreditConfig
) -> np.ndarray:
    """The random numbers with which `Credit.use` samples: (worlds, FOUND)."""
    odds = np.where(seen[..., 0] + seen[..., 2] > 0, 1 - config.withhold, 0.0).tolist()
    return np.array(
        [
            [uniforms("use", world.episode(number), item(one), ENV, odd)[0] for one, odd in zip(row, its, strict=True)]
            for world, row, its in zip(worlds, found.tolist(), odds, strict=True)
        ]
    )


# The same through memory and database


class Named:
    """An embedder of texts that name items: how often each is named."""

    model_id = "named"
    dimensions = ITEMS

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Rows of length 1."""
        rows = np.zeros((len(texts), ITEMS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[int(word.removeprefix("w"))] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def play(world: World, folder: Path, config: CreditConfig, *, credit: bool = True) -> Course:
    """The course of `world` with a lab's own parts: recall, `Credit`, recalls and outcomes in SQLite."""
    episodes = len(world.luck)
    course = Course(
        np.full((episodes, CHOSEN), -1), np.zeros((episodes, CHOSEN), bool), np.zeros(episodes, bool),
        np.zeros((ITEMS, 4)), 0.5, np.zeros(ITEMS, bool),
    )  # fmt: skip
    weights = Weights(recency=0, importance=0, diversity=0)
    with (
        Database(folder / "lab.db") as database,
        ReflectionMemory(database, Named(), folder / "memory.faiss", weights=weights) as memory,
    ):
        judge = Credit(database, config)
        memory.remember([
            Reflection(id=item(one), kind="grounded", env=ENV, task=f"{ENV}:train:{one}", text=f"w{one}")
            for one in range(ITEMS)
        ])  # fmt: skip
        for number in range(episodes):
            _play_one(world, number, memory, judge, credit, course)
            if credit and (number + 1) % REVIEW == 0:
                for verdict in judge.review():
                    course.benched[int(verdict.reflection[-2:])] = True
                course.base = database.success_rates([ENV])[ENV]
        for row in database.recall_evidence():
            course.counts[int(row.reflection[-2:])] = row[3:]
    return course


def _play_one(world: World, number: int, memory: ReflectionMemory, judge: Credit, credit: bool, course: Course) -> None:
    episode = world.episode(number)
    query = " ".join(
        f"w{one}" for place, one in enumerate(world.queries[number].tolist()) for _ in range(FOUND - place)
    )
    hits = memory.recall(query, episode=episode, env=ENV, k=FOUND, record=False)
    worth = {hit.reflection.id: RELEVANCE * round(hit.parts["cosine"], 4) for hit in hits if hit.parts["cosine"] > 1e-3}
    if credit:
        for id, use in judge.use(list(worth), ENV, episode).items():
            worth[id] += use
    best = sorted(worth, key=lambda id: -worth[id])[:CHOSEN]
    lots = judge.split(episode, best, env=ENV) if credit else draw_lots(episode, best, [0.0] * len(best), 0.0, 1.0)
    memory.database.put_recalls([
        Recall(
            episode=episode, reflection=lot.reflection, rank=rank, query=query, score=worth[lot.reflection], env=ENV,
            withheld=lot.withheld, propensity=lot.propensity,
        )
        for rank, lot in enumerate(lots)
    ])  # fmt: skip
    served = [int(lot.reflection[-2:]) for lot in lots if not lot.withheld]
    won = bool(world.luck[number] < probability(world.effects[served]))
    memory.database.put_episode(
        Episode(id=episode, run="simulated", env=ENV, split="train", seed=number, status="won" if won else "lost")
    )
    memory.outcome(episode, won)
    course.chosen[number, : len(best)] = [int(id[-2:]) for id in best]
    course.withheld[number, : len(lots)] = [lot.withheld for lot in lots]
    course.won[number] = won


def alike(one: Course, other: Course) -> bool:
    """Whether two courses are the same in every episode."""
    names = ("chosen", "withheld", "won", "counts", "base", "benched")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# What came of it


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
            BASE + (world.effects[course.chosen] * ((course.chosen >= 0) & ~course.withheld)).sum(-1)
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
        f"| cost of withholding, estimated | {shown(costs, 4)}, greatest {max(costs):.4f}; bound {config.max_cost} |",
        f"| … true | {shown(true_costs, 4)} |",
        f"| items withheld, of all chosen | {np.mean(held):.4f} |",
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
    """The estimated and the true cost of withholding, as shares of the episodes, and the share withheld."""
    mean, _ = moments(course.counts, course.base, config.prior)
    lost = float((course.counts[:, 2] * np.maximum(mean, 0)).sum())
    true = float(np.where(course.withheld, np.maximum(world.effects[course.chosen], 0), 0).sum())
    n = len(course.won)
    return lost / n, true / n, float(course.withheld.sum() / (course.chosen >= 0).sum())


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
