"""What to recall, and why: relevance, recency and importance, then diversity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from memory.database import Database
from memory.index import VectorIndex
from memory.records import Reflection, now
from memory.reflections import Filter, ReflectionRow

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = 64
"""How many of the most relevant reflections are weighed against each other, or eight times k if that is more."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts for how much (Park et al. 2023, Generative Agents, §4.1, where all three are 1).

    Attributes:
        relevance: of the cosine of query and text.
        recency: of `decay` to the power of the hours since the last recall, or since the writing. It depends on the
            clock: 0 makes ranking the same at any time.
        importance: of the importance that the reflector gave; a pinned reflection counts as fully important.
        decay: what remains of the recency after an hour.
        diversity: how much the cosine to what is already chosen costs (Carbonell and Goldstein 1998, maximal marginal
            relevance, 1 − λ); 0 chooses by score alone.
    """

    relevance: float = 1.0
    recency: float = 1.0
    importance: float = 1.0
    decay: float = 0.995
    diversity: float = 0.3

    def __post_init__(self) -> None:
        if min(self.relevance, self.recency, self.importance) < 0 or not self.total:
            raise ValueError("The weights of recall must not be negative, nor all be 0.")
        if not 0 < self.decay <= 1 or not 0 <= self.diversity < 1:
            raise ValueError("The decay of recall must be in (0, 1], its diversity in [0, 1).")

    @property
    def total(self) -> float:
        return self.relevance + self.recency + self.importance


SEARCH = Weights(recency=0.1, importance=0.1, diversity=0.0)
"""For a person who types words and expects what fits them best to come first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A reflection that was found.

    Attributes:
        score: the weighted sum of the parts `relevance`, `recency` and `importance`, in [0, sum of the weights].
        parts: these three, scaled to [0, 1] over the candidates; before scaling they are `cosine`, `decay` and
            `rated`; `hours` since it was last recalled or written; `overlap`, the cosine to the nearest hit above.
        recalled: how many episodes it has served before.
        ended: how many of these have ended.
        won: how many of these were won.
        explanation: the parts in one line.
    """

    reflection: Reflection
    score: float
    parts: dict[str, float]
    recalled: int
    ended: int
    won: int
    explanation: str


class Retriever:
    """Ranks what `index` finds near a query, by what `database` knows of it."""

    def __init__(self, database: Database, index: VectorIndex, *, clock: Callable[[], str] = now):
        self.database = database
        self.index = index
        self.clock = clock

    def retrieve(self, query: np.ndarray, k: int, filter: Filter, weights: Weights | None = None) -> list[Hit]:
        """The best `k` hits for the query vector (dimensions,) among the reflections that fit `filter`.

        Ties are broken in favour of the older reflection, so that the order does not depend on chance.
        """
        weights = weights or Weights()
        if k < 1:
            return []
        cosines, rows = self._candidates(query, max(CANDIDATES, 8 * k), filter)
        parts = self._parts(cosines, rows, weights)
        scores = {number: _score(parts[number], weights) for number in parts}
        chosen = self._diverse(scores, parts, k, weights)
        reflections = self.database.load_reflections(chosen)
        counts = self.database.recall_counts([rows[number].id for number in chosen])
        hits = []
        for number in chosen:
            count = counts[rows[number].id]
            hit = Hit(reflections[number], scores[number], parts[number], count.n, count.n_ended, count.n_won, "")
            hits.append(replace(hit, explanation=explain(hit, weights)))
        return hits

    def _candidates(
        self, query: np.ndarray, count: int, filter: Filter
    ) -> tuple[dict[int, float], dict[int, ReflectionRow]]:
        """Cosines and rows of the nearest `count` that fit."""
        # First among all, since a filter seldom leaves out many.
        found = dict(self.index.search(query, 2 * count))
        rows = self.database.reflection_rows(list(found), filter)
        if len(rows) < count and len(found) < len(self.index):
            found = dict(self.index.search(query, count, only=self.database.reflection_numbers(filter)))
            rows = self.database.reflection_rows(list(found), filter)
        best = [number for number in found if number in rows][:count]
        return {number: found[number] for number in best}, {number: rows[number] for number in best}

    def _parts(
        self, cosines: dict[int, float], rows: dict[int, ReflectionRow], weights: Weights
    ) -> dict[int, dict[str, float]]:
        last = self.database.last_recalled([row.id for row in rows.values()])
        moment = datetime.fromisoformat(self.clock())
        raw = {}
        for number, row in rows.items():
            seen = max(row.created_at, last.get(row.id, row.created_at))
            hours = max(0.0, (moment - datetime.fromisoformat(seen)).total_seconds() / 3600)
            rated = 1.0 if row.pinned else row.importance
            raw[number] = {"cosine": cosines[number], "hours": hours, "decay": weights.decay**hours, "rated": rated}
        # Less than an hour apart is not stretched to the full scale: within one run everything is about as recent.
        least = {"relevance": 1e-6, "recency": 1 - weights.decay, "importance": 1e-6}
        for name, of in (("relevance", "cosine"), ("recency", "decay"), ("importance", "rated")):
            scaled = scale([part[of] for part in raw.values()], least[name])
            for part, value in zip(raw.values(), scaled, strict=True):
                part[name] = value
        return raw

    def _diverse(
        self, scores: dict[int, float], parts: dict[int, dict[str, float]], k: int, weights: Weights
    ) -> list[int]:
        """Choose `k`, one after the other, each by its score less its likeness to those already chosen."""
        rest = sorted(scores, key=lambda number: (-scores[number], number))
        if not rest:
            return []
        vectors = self.index.vectors(rest)
        likeness = vectors @ vectors.T
        worth = [scores[number] / weights.total for number in rest]
        chosen: list[int] = []
        overlap = [0.0] * len(rest)
        while len(chosen) < min(k, len(rest)):
            place = max(
                (place for place in range(len(rest)) if place not in chosen),
                key=lambda place: (1 - weights.diversity) * worth[place] - weights.diversity * overlap[place],
            )
            parts[rest[place]]["overlap"] = overlap[place]
            chosen.append(place)
            overlap = [max(old, float(new)) for old, new in zip(overlap, likeness[place], strict=True)]
        return [rest[place] for place in chosen]


def scale(values: Sequence[float], least: float = 1e-6) -> list[float]:
    """`values` spread over [0, 1]: 1 for the greatest, 0 for the least if they are at least `least` apart."""
    if not values:
        return []
    greatest = max(values)
    span = max(greatest - min(values), least, 1e-6)
    return [1 - (greatest - value) / span for value in values]


def explain(hit: Hit, weights: Weights) -> str:
    """One line that says where the score of `hit` comes from and what became of the episodes that it served."""
    part = hit.parts
    sources = (
        ("relevance", weights.relevance, f"cosine {part['cosine']:.2f}"),
        ("recency", weights.recency, f"{_ago(part['hours'])} ago"),
        ("importance", weights.importance, "pinned" if hit.reflection.pinned else f"rated {part['rated']:.2f}"),
    )
    summands = " + ".join(
        f"{name} {weight:g}×{part[name]:.2f} ({source})" for name, weight, source in sources if weight
    )
    likeness = f"; likeness to the hits above {part['overlap']:.2f}" if part.get("overlap") else ""
    served = f"; recalled {hit.recalled}×, won {hit.won} of {hit.ended} ended" if hit.recalled else "; never recalled"
    return f"{hit.score:.2f} = {summands}{likeness}{served}"


def _score(parts: dict[str, float], weights: Weights) -> float:
    return (
        weights.relevance * parts["relevance"]
        + weights.recency * parts["recency"]
        + weights.importance * parts["importance"]
    )


def _ago(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
