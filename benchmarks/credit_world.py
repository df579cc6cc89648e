"""The simulated world of `credit.py`: played by arrays, and through `ReflectionMemory`, `Credit` and SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benching import harmful

from memory import Database, Episode, Recall, Reflection, ReflectionMemory, Weights
from memory.credit import Credit, CreditConfig, assign, moments, sample, uniforms
from memory.store import Filter

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
    """What happened in one world: for each episode who was chosen (-1: nobody), who held out, whether it was won.

    `counts` (items, 4) is the evidence at the end, `base` the base rate that estimates were made with, `benched` which
    items were benched.
    """

    chosen: np.ndarray
    held_out: np.ndarray
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
    held_out, won = np.zeros(chosen.shape, bool), np.zeros(chosen.shape[:2], bool)
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
        if credit and config.hold_out:
            mean, _ = moments(counts[some, best], base[:, None], config.prior)
            for place, world in enumerate(worlds):
                known = best[place][there[place]].tolist()
                if not exhausted[place]:
                    lots = assign(
                        world.episode(number), [item(one) for one in known], mean[place, : len(known)].tolist(),
                        config.hold_out, config.max_cost,
                    )  # fmt: skip
                    held_out[place, number, : len(lots)] = [lot.held_out for lot in lots]
                    drawn[place, : len(lots)] = [lot.propensity < 1 for lot in lots]
        held = held_out[:, number]
        won[:, number] = luck[:, number] < probability(effects[some, best] * (there & ~held))
        chosen[:, number] = best
        for side, which in ((0, drawn & ~held), (2, drawn & held)):
            np.add.at(counts, (some, best, side), which)
            np.add.at(counts, (some, best, side + 1), which & won[:, number, None])
        if credit and (number + 1) % REVIEW == 0:
            base = (won[:, : number + 1].sum(1) + 1) / (number + 3)
            mean, _ = moments(counts, base[:, None], config.prior)
            benched |= harmful(counts, base[:, None], 1 - config.hold_out, config)
            lost = (counts[..., 2] * np.maximum(mean, 0)).sum(1)
            exhausted = lost / (number + 1) > config.max_cost
    for place in range(len(worlds)):
        yield Course(
            chosen[place], held_out[place], won[place], counts[place], float(base[place]), benched[place]
        )  # fmt: skip


def _chances(
    worlds: Sequence[World], number: int, found: np.ndarray, seen: np.ndarray, config: CreditConfig
) -> np.ndarray:
    """The random numbers with which `Credit.use` samples: (worlds, FOUND)."""
    odds = np.where(seen[..., 0] + seen[..., 2] > 0, 1 - config.hold_out, 0.0).tolist()
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
                course.base = database.episodes.success_rates([ENV])[ENV]
        for row in database.recalls.evidence():
            course.counts[int(row.reflection[-2:])] = row[3:]
    return course


def _play_one(world: World, number: int, memory: ReflectionMemory, judge: Credit, credit: bool, course: Course) -> None:
    episode = world.episode(number)
    query = " ".join(
        f"w{one}" for place, one in enumerate(world.queries[number].tolist()) for _ in range(FOUND - place)
    )
    hits = memory.recall(query, wanted=Filter(env=ENV), episode=episode, k=FOUND, record=False)
    worth = {hit.reflection.id: RELEVANCE * round(hit.parts["cosine"], 4) for hit in hits if hit.parts["cosine"] > 1e-3}
    if credit:
        for id, use in judge.use(list(worth), ENV, episode).items():
            worth[id] += use
    best = sorted(worth, key=lambda id: -worth[id])[:CHOSEN]
    lots = judge.split(episode, best, env=ENV) if credit else assign(episode, best, [0.0] * len(best), 0.0, 1.0)
    memory.database.recalls.put([
        Recall(
            episode=episode, reflection=lot.reflection, rank=rank, query=query, score=worth[lot.reflection], env=ENV,
            held_out=lot.held_out, propensity=lot.propensity,
        )
        for rank, lot in enumerate(lots)
    ])  # fmt: skip
    served = [int(lot.reflection[-2:]) for lot in lots if not lot.held_out]
    won = bool(world.luck[number] < probability(world.effects[served]))
    memory.database.episodes.put(
        Episode(id=episode, run="simulated", env=ENV, split="train", seed=number, status="won" if won else "lost")
    )
    memory.outcome(episode, won)
    course.chosen[number, : len(best)] = [int(id[-2:]) for id in best]
    course.held_out[number, : len(lots)] = [lot.held_out for lot in lots]
    course.won[number] = won


def alike(one: Course, other: Course) -> bool:
    """Whether two courses are the same in every episode."""
    names = ("chosen", "held_out", "won", "counts", "base", "benched")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# What came of it
