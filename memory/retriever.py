"""What to recall, and why: relevance to meaning and words, recency, importance and measured use, then diversity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from memory.database import Database
from memory.episodes import chunks
from memory.index import VectorIndex
from memory.records import Reflection, now
from memory.reflections import Filter, ReflectionRow

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = 64
"""How many reflections each of the two searches puts up, or eight times k if that is more."""

RRF_K = 60
"""How little the first ranks differ when two rankings are fused (Cormack, Clarke and Büttcher 2009)."""

HALF_LIFE = math.log(0.5) / math.log(0.995)
"""In hours, about 138: what remains is 0.995 after one (Park et al. 2023, Generative Agents, §4.1)."""

Use = Callable[[Sequence[str], str | None, int], Mapping[str, float]]
"""How much each of these reflections (ids) helps in an environment (None: in any); the seed decides what is chance."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts for how much (Park et al. 2023, where the first three are 1).

    Attributes:
        relevance: of the fused ranks by meaning and by words.
        recency: of the time since the last recall, or since the writing. It depends on the clock: 0 makes ranking the
            same at any time.
        importance: of the importance that the reflector gave; a pinned reflection counts as fully important.
        use: of the measured use, where it is measured; otherwise it does not count.
        half_life: the hours after which half of the recency is left.
        diversity: how much the cosine to what is already chosen costs (Carbonell and Goldstein 1998, maximal marginal
            relevance, 1 − λ); 0 chooses by score alone.
    """

    relevance: float = 1.0
    recency: float = 1.0
    importance: float = 1.0
    use: float = 1.0
    half_life: float = HALF_LIFE
    diversity: float = 0.3

    def __post_init__(self) -> None:
        always = (self.relevance, self.recency, self.importance)
        if min(*always, self.use) < 0 or not sum(always):
            raise ValueError("The weights of recall must not be negative, nor all be 0 without the use.")
        if not self.half_life > 0 or not 0 <= self.diversity < 1:
            raise ValueError("The half-life of recall must be above 0, its diversity in [0, 1).")

    def left(self, hours: float) -> float:
        """What is left of the recency after so many hours."""
        return float(0.5 ** (hours / self.half_life))


SEARCH = Weights(recency=0.1, importance=0.1, use=0.0, diversity=0.0)
"""For a person who types words and expects what fits them best to come first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A reflection that was found.

    Attributes:
        score: the weighted sum of the parts `relevance`, `recency`, `importance` and, where it is measured, `use`.
        parts: these, scaled to [0, 1] over the candidates. Before scaling they are `rrf`, `decay`, `rated` and
            `measured`. `rrf` comes of the ranks `cosine_rank` and `bm25_rank` (from 1, equals share one; 0 where that
            search did not put it up), these of `cosine` and `bm25` (0 where words did not find it). `hours` since it
            was last recalled (if recency counts) or written; `overlap`, the cosine to the nearest hit above.
        recalled: how many episodes it has served before.
        ended: how many of these have ended.
        won: how many of these were won.
        explanation: the parts in one line.
        text: what there is to show: the whole text, or what is left of it where it had to be shortened.
    """

    reflection: Reflection
    score: float
    parts: dict[str, float]
    recalled: int
    ended: int
    won: int
    explanation: str
    text: str = ""


class Retriever:
    """Ranks what `index` finds near a query and what words found, by what `database` knows of it."""

    def __init__(self, database: Database, index: VectorIndex, *, clock: Callable[[], str] = now):
        self.database = database
        self.index = index
        self.clock = clock

    def retrieve(
        self,
        query: np.ndarray,
        k: int,
        filter: Filter,
        weights: Weights | None = None,
        *,
        worded: Sequence[tuple[int, float]] = (),
        use: Use | None = None,
        seed: int = 0,
    ) -> list[Hit]:
        """The best `k` hits for the query vector (dimensions,) among the reflections that fit `filter`.

        `worded` are the numbers that its words found, with their BM25, the best first; the index must know them. Ties
        are broken in favour of the older reflection, so that the order does not depend on chance.
        """
        import numpy as np

        weights = weights or Weights()
        if k < 1:
            return []
        rows = self._nearest(query, candidates(k), filter)
        near = list(rows)
        rows |= self.database.reflection_rows([number for number, _ in worded if number not in rows], filter)
        if not rows:
            return []
        numbers = sorted(rows)
        vectors = self.index.vectors(numbers)
        cosines = dict(zip(numbers, (vectors @ np.asarray(query, np.float32)).tolist(), strict=True))
        bm25 = {number: score for number, score in worded if number in rows}
        parts = {number: {"cosine": cosines[number], "bm25": bm25.get(number, 0.0)} for number in numbers}
        _add_relevance(parts, {"cosine": {number: cosines[number] for number in near}, "bm25": bm25})
        self._add_time_and_rating(parts, rows, weights)
        if use is not None and weights.use:
            _add_use(parts, rows, use([row.id for row in rows.values()], filter.env, seed))
        weighed = _weighed(parts[numbers[0]], weights)
        scores = {
            number: sum(weight * part[name] for name, weight in weighed.items()) for number, part in parts.items()
        }
        worth = {number: score / sum(weighed.values()) for number, score in scores.items()}
        chosen = _diverse(worth, dict(zip(numbers, vectors, strict=True)), parts, k, weights.diversity)
        return self._hits(chosen, rows, scores, parts, weights)

    def _nearest(self, query: np.ndarray, count: int, filter: Filter) -> dict[int, ReflectionRow]:
        """The rows of the nearest `count` that fit, the nearest first."""
        # First among all, since a filter seldom leaves out many; then among more; then among those that fit.
        for looked in (8 * count, 32 * count):
            found = [number for number, _ in self.index.search(query, looked)]
            rows = self._fitting(found, count, filter)
            if len(rows) == count or len(found) == len(self.index):
                return rows
        only = self.database.reflection_numbers(filter)
        return self._fitting([number for number, _ in self.index.search(query, count, only=only)], count, filter)

    def _fitting(self, numbers: Sequence[int], count: int, filter: Filter) -> dict[int, ReflectionRow]:
        """The rows of the first `count` of `numbers` that fit, in this order."""
        rows: dict[int, ReflectionRow] = {}
        for part in chunks(numbers, 2 * count):
            fit = self.database.reflection_rows(part, filter)
            rows |= {number: fit[number] for number in part if number in fit}
            if len(rows) >= count:
                break
        return dict(islice(rows.items(), count))

    def _add_time_and_rating(
        self, parts: dict[int, dict[str, float]], rows: dict[int, ReflectionRow], weights: Weights
    ) -> None:
        last = self.database.last_recalled([row.id for row in rows.values()]) if weights.recency else {}
        moment = datetime.fromisoformat(self.clock())
        for number, row in rows.items():
            seen = max(row.created_at, last.get(row.id, row.created_at))
            hours = max(0.0, (moment - datetime.fromisoformat(seen)).total_seconds() / 3600)
            rated = 1.0 if row.pinned else row.importance
            parts[number] |= {"hours": hours, "decay": weights.left(hours), "rated": rated}
        # Less than an hour apart is not stretched to the full scale: within one run everything is about as recent.
        _add_scaled(parts, "recency", "decay", 1 - weights.left(1.0))
        _add_scaled(parts, "importance", "rated")

    def _hits(
        self,
        chosen: list[int],
        rows: dict[int, ReflectionRow],
        scores: dict[int, float],
        parts: dict[int, dict[str, float]],
        weights: Weights,
    ) -> list[Hit]:
        reflections = self.database.load_reflections(chosen)
        counts = self.database.recall_counts([rows[number].id for number in chosen])
        hits = []
        for number in chosen:
            count, found = counts[rows[number].id], reflections[number]
            hit = Hit(found, scores[number], parts[number], count.n, count.n_ended, count.n_won, "", found.text)
            hits.append(replace(hit, explanation=explain(hit, weights)))
        return hits


def candidates(k: int) -> int:
    """How many reflections each search puts up for `k` hits."""
    return max(CANDIDATES, 8 * k)


def ranks(values: Mapping[int, float], tie: float = 1e-6) -> dict[int, int]:
    """The rank of each value, 1 for the greatest; those within `tie` of the next greater share its rank."""
    found: dict[int, int] = {}
    above, rank = math.inf, 0
    for place, (number, value) in enumerate(sorted(values.items(), key=lambda item: -item[1]), 1):
        rank = place if above - value > tie else rank
        found[number], above = rank, value
    return found


def scale(values: Sequence[float], least: float = 1e-6) -> list[float]:
    """`values` spread over [0, 1]: 1 for the greatest, 0 for the least if they are at least `least` apart."""
    if not values:
        return []
    greatest = max(values)
    span = max(greatest - min(values), least, 1e-6)
    return [1 - (greatest - value) / span for value in values]


def _add_relevance(parts: dict[int, dict[str, float]], searches: dict[str, dict[int, float]]) -> None:
    """Fuse what the searches put up by reciprocal rank: each adds to its own, and takes nothing from the others."""
    for part in parts.values():
        part["rrf"] = 0.0
    for name, values in searches.items():
        found = ranks(values)
        for number, part in parts.items():
            rank = found.get(number, 0)
            part[f"{name}_rank"] = float(rank)
            part["rrf"] += 1 / (RRF_K + rank) if rank else 0.0
    _add_scaled(parts, "relevance", "rrf")


def _add_use(parts: dict[int, dict[str, float]], rows: dict[int, ReflectionRow], measured: Mapping[str, float]) -> None:
    """Add the use. One that nothing is known of stands in the middle of the others."""
    if measured:
        unknown = sum(measured.values()) / len(measured)
        for number, row in rows.items():
            parts[number]["measured"] = measured.get(row.id, unknown)
        _add_scaled(parts, "use", "measured")


def _add_scaled(parts: dict[int, dict[str, float]], name: str, of: str, least: float = 1e-6) -> None:
    scaled = scale([part[of] for part in parts.values()], least)
    for part, value in zip(parts.values(), scaled, strict=True):
        part[name] = value


def _weighed(parts: Mapping[str, float], weights: Weights) -> dict[str, float]:
    """The weights of the parts that are there."""
    named = {"relevance": weights.relevance, "recency": weights.recency, "importance": weights.importance}
    return named | {"use": weights.use} if "use" in parts else named


def _diverse(
    worth: dict[int, float],
    vectors: dict[int, np.ndarray],
    parts: dict[int, dict[str, float]],
    k: int,
    diversity: float,
) -> list[int]:
    """Choose `k`, one after the other, each by its worth in [0, 1] less its likeness to those already chosen."""
    import numpy as np

    rest = sorted(worth, key=lambda number: (-worth[number], number))
    gain = (1 - diversity) * np.asarray([worth[number] for number in rest])
    directions = np.stack([vectors[number] for number in rest])
    overlap = np.zeros(len(rest))
    chosen: list[int] = []
    while len(chosen) < min(k, len(rest)):
        # The first of the best, which is the older of equals.
        place = int(np.argmax(gain - diversity * overlap))
        parts[rest[place]]["overlap"] = float(overlap[place])
        chosen.append(rest[place])
        gain[place] = -np.inf
        overlap = np.maximum(overlap, directions @ directions[place])
    return chosen


def explain(hit: Hit, weights: Weights) -> str:
    """One line that says where the score of `hit` comes from and what became of the episodes that it served."""
    part = hit.parts
    places = {
        name: f"#{part[f'{name}_rank']:.0f}" if part[f"{name}_rank"] else "unranked" for name in ("cosine", "bm25")
    }
    fused = ", ".join(f"{name} {part[name]:.2f} {place}" for name, place in places.items())
    sources = {
        "relevance": f"rrf {part['rrf']:.4f}: {fused}",
        "recency": f"{_ago(part['hours'])} ago",
        "importance": "pinned" if hit.reflection.pinned else f"rated {part['rated']:.2f}",
        "use": f"measured {part.get('measured', 0.0):.2f}",
    }
    summands = " + ".join(
        f"{name} {weight:g}×{part[name]:.2f} ({sources[name]})"
        for name, weight in _weighed(part, weights).items()
        if weight
    )
    likeness = f"; likeness to the hits above {part['overlap']:.2f}" if part.get("overlap") else ""
    served = f"; recalled {hit.recalled}×, won {hit.won} of {hit.ended} ended" if hit.recalled else "; never recalled"
    return f"{hit.score:.2f} = {summands}{likeness}{served}"


def _ago(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
