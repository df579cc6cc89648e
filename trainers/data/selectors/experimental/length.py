"""Length rules: the shortest successes are those of the easiest tasks, so short must not win by itself.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from memory.records import Episode
from trainers.data.selectors.base import Context, Selected, Selection, Settings, draw, ordered, sift


class Spread(Settings):
    """So many episodes of each environment, spread over lengths: 1 step, 2, 3–4, 5–8, 9–16 and so on in turn.

    Easy tasks are won often and shortly; drawn evenly they would fill the data.
    """

    kind: Literal["spread"] = "spread"
    per_env: int = Field(30, ge=1)

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        places: dict[tuple[str, int], int] = {}
        turn: dict[str, tuple[int, str]] = {}
        for item in ordered(pool, context.seed):
            episode = item.episode
            key = episode.env, (max(len(episode.steps), 1) - 1).bit_length()
            places[key] = places.get(key, 0) + 1
            # The n-th of every length before the n + 1-st of any; within a turn by lot.
            turn[episode.id] = places[key], draw(context.seed, episode.id, "spread|")
        kept: set[str] = set()
        for env in {item.episode.env for item in pool}:
            ids = [item.episode.id for item in pool if item.episode.env == env]
            kept.update(sorted(ids, key=turn.__getitem__)[: self.per_env])
        return sift(pool, context, lambda item: None if item.episode.id in kept else "length is full")


class Shortest(Settings):
    """Of the episodes of a task that score about as well as its best, the shortest: the length rule of Meta-Rewarding
    (Wu et al. 2024, §2.1), against answers that grow from round to round.

    tolerance: ρ; scores in [(1 − ρ)·best + ρ·worst, best] are about as good as the best.
    """

    kind: Literal["shortest"] = "shortest"
    tolerance: float = Field(0.1, ge=0.0, le=1.0)

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        tasks: dict[str, list[Episode]] = {}
        for item in ordered(pool, context.seed):
            tasks.setdefault(item.episode.task_id, []).append(item.episode)
        against: dict[str, str] = {}
        for episodes in tasks.values():
            scores = [episode.score for episode in episodes]
            bar = (1 - self.tolerance) * max(scores) + self.tolerance * min(scores)
            best = [episode for episode in episodes if episode.score >= bar - 1e-12]
            shortest = min(best, key=lambda episode: len(episode.steps))
            good = {episode.id for episode in best}
            for episode in episodes:
                against[episode.id] = "longer than another" if episode.id in good else "scores below the best"
            del against[shortest.id]
        return sift(pool, context, lambda item: against.get(item.episode.id))
