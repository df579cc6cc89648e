"""What to recall, and why: relevance to meaning and words, recency, importance and measured use, then diversity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from memory.index.vector_index import VectorIndex
from memory.records import Reflection, now
from memory.store.database import Database
from memory.store.filters import Filter
from memory.store.recalls import Served
from memory.store.reflections import ReflectionRow
from memory.store.repeats import ONCE, Tally, answers, question, tallies, with_tally
from memory.store.sql import chunks
from memory.text.moments import seconds

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = 32
"""How many reflections each of the two searches puts up, or three times k if that is more."""

ANSWERS = 4
"""A search for a person looks at so many times k hits, since answers to one question become one."""

RRF_K = 4
"""How little the first ranks differ when two rankings are fused (Cormack, Clarke and Büttcher 2009, who take 60 for
runs of a thousand). What leads one search has at most 2 K + 1 others before it, however far down the other puts it: it
is among the ten that a search shows. With 60 it fell behind whatever stood in the middle of both.
"""

TELLING = 1e-3
"""What has less than this share of the best BM25 has in common with the query what most texts have: it says nothing."""

HALF_LIFE = math.log(0.5) / math.log(0.995)
"""In hours, about 138: what remains is 0.995 after one (Park et al. 2023, Generative Agents, §4.1)."""

Use = Callable[[Sequence[str], str | None, int], Mapping[str, float]]
"""By how much each of these reflections (ids) raises the chance of success in an environment (None: in any), in
[-1, 1], with 0 for what is left out; the seed decides what is chance."""

Show = Callable[[Reflection, Tally], str]
"""Makes what there is to show of a reflection, which was seen in so many games."""


def plain(reflection: Reflection, tally: Tally) -> str:
    """Its text with its count, as it is."""
    return with_tally(reflection, tally)


@dataclass(frozen=True, slots=True)
class Weights:
    """What counts for how much (Park et al. 2023, where the first three are 1).

    Relevance comes of the ranks among what was found, 1 for what leads both searches. The others have scales of their
    own, which do not depend on what else was found: no difference is stretched to more than it is.

    Attributes:
        relevance: of the fused ranks by meaning and by words.
        recency: of the time since the last recall, or since the writing. It depends on the clock: 0 makes ranking the
            same at any time.
        importance: of the importance that the reflector gave; a pinned reflection counts as fully important.
        use: of the measured use, where it is measured; otherwise it does not count. It is an uplift: at 1, what wins
            one more of ten games makes up for a tenth of relevance.
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

    def left(self, hours: Any) -> Any:
        """What is left of the recency after so many hours (a number, or an array of them)."""
        return 0.5 ** (hours / self.half_life)


SEARCH = Weights(recency=0.1, importance=0.1, use=0.0, diversity=0.0)
"""For a person who types words and expects what fits them best to come first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A reflection that was found.

    Attributes:
        score: the weighted sum of the parts `relevance`, `recency`, `importance` and, where it is measured, `use`.
        parts: these. `relevance`, `recency` and `importance` are in [0, 1], `use` in [-1, 1], each on its own scale.
            `relevance` is `rrf`, 1 for what leads both searches; that comes of the ranks `cosine_rank` and `bm25_rank`
            among the candidates (from 1, equals share the mean of theirs; 0 where words say nothing for it), these of
            `cosine` and `bm25` (0 where words did not find it). `hours` since it was last recalled (if recency counts)
            or written; `overlap`, the cosine to the nearest hit above.
        recalled: how many episodes it has served before.
        ended: how many of these have ended.
        won: how many of these were won.
        weights: how the parts were weighed.
        text: what there is to show: the whole text with its count (in a recall with its context), or what is left of it
            where it had to be shortened.
        tally: in how many games it was seen, of those that were to be looked at.
    """

    reflection: Reflection
    score: float
    parts: dict[str, float]
    recalled: int
    ended: int
    won: int
    weights: Weights
    text: str = ""
    tally: Tally = ONCE

    @property
    def explanation(self) -> str:
        """The parts in one line."""
        return explain(self)


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
        shown: Show = plain,
    ) -> list[Hit]:
        """The best `k` hits for the query vector (dimensions,) among the reflections that fit `filter`.

        `worded` is what its words found (number, BM25), the best first; the index must know it. `shown` makes what
        there is to show of one. Of equals the one that is nearer to the query comes first, then by their ids: in what
        order they were written depends on which of several games ended first.
        """
        weights = weights or Weights()
        if k < 1:
            return []
        put_up = self._put_up(query, candidates(k), filter, dict(worded))
        if not put_up.rows:
            return []
        put_up.add_relevance()
        self._add_time_and_rating(put_up, weights)
        if use is not None and weights.use:
            put_up.add_use(use([row.id for row in put_up.rows], filter.env, seed))
        return self._hits(put_up, put_up.best(k, weights), weights, shown, filter)

    def _put_up(self, query: np.ndarray, count: int, filter: Filter, worded: Mapping[int, float]) -> Candidates:
        """What fits of the nearest `count` and of what words found, each with the cosine to the query and BM25."""
        import numpy as np

        rows = self.database.reflections.rows(list(worded), filter)
        # First among the nearest, then among more, then among those that fit.
        for looked in ((8 if filter.narrow else 2) * count, 32 * count):
            found = [number for number, _ in self.index.search(query, looked)]
            near = self._first(found, count, filter)
            if len(near) == count or len(found) == len(self.index):
                break
        else:
            only = self.database.reflections.numbers(filter)
            near = self._first([number for number, _ in self.index.search(query, count, only=only)], count, filter)
        rows |= near
        numbers = sorted(rows, key=lambda number: rows[number].id)
        cosines = (self.index.vectors(numbers) @ np.asarray(query, np.float32)).astype(float)
        order = np.argsort(-cosines, kind="stable")
        numbers = [numbers[place] for place in order]
        put_up = Candidates([rows[number] for number in numbers], self.index.vectors(numbers))
        put_up["cosine"] = cosines[order]
        put_up["bm25"] = np.asarray([worded.get(number, 0.0) for number in numbers])
        return put_up

    def _first(self, numbers: list[int], count: int, filter: Filter) -> dict[int, ReflectionRow]:
        """The rows of the first `count` of `numbers` that fit `filter`."""
        found: dict[int, ReflectionRow] = {}
        for part in chunks(numbers, count):
            fitting = self.database.reflections.rows(part, filter)
            found |= {number: fitting[number] for number in part if number in fitting}
            if len(found) >= count:
                break
        return dict(islice(found.items(), count))

    def _add_time_and_rating(self, put_up: Candidates, weights: Weights) -> None:
        import numpy as np

        rows = put_up.rows
        seen = [row.created for row in rows]
        if weights.recency:
            put_up.served = served = self.database.recalls.served([row.id for row in rows])
            seen = [
                max(at, seconds(served[row.id].last)) if row.id in served else at
                for at, row in zip(seen, rows, strict=True)
            ]
        hours = (seconds(self.clock()) - np.asarray(seen)) / 3600
        put_up["hours"] = hours.clip(0)
        put_up["recency"] = weights.left(put_up["hours"])
        put_up["importance"] = np.asarray([1.0 if row.pinned else row.importance for row in rows])

    def _hits(self, put_up: Candidates, places: list[int], weights: Weights, shown: Show, wanted: Filter) -> list[Hit]:
        import numpy as np

        rows = [put_up.rows[place] for place in places]
        reflections = self.database.reflections.load([row.number for row in rows])
        served = put_up.served if weights.recency else self.database.recalls.served([row.id for row in rows])
        seen = tallies(self.database, reflections.values(), wanted)
        values = np.stack(list(put_up.parts.values()), axis=1)[places].tolist()
        hits = []
        for row, said in zip(rows, values, strict=True):
            parts = dict(zip(put_up.parts, said, strict=True))
            found, score = reflections[row.number], parts.pop("score")
            n, n_won, n_ended = served[row.id][:3] if row.id in served else (0, 0, 0)
            tally = seen[row.id]
            hits.append(Hit(found, score, parts, n, n_ended, n_won, weights, shown(found, tally), tally))
        return hits


def together(database: Database, hits: Sequence[Hit], k: int, filter: Filter) -> list[Hit]:
    """The first `k` of `hits`, of which those that answer one question are one, the best of them, and tell all answers
    that fit `filter`. What is no longer counted is looked at one by one."""
    if filter.status != "active":
        return list(hits[:k])
    found: dict[object, Hit] = {}
    for hit in hits:
        item = hit.reflection
        asked = question(item) if item.topic else item.id
        if asked not in found and len(found) < k:
            found[asked] = replace(hit, text=answers(database, item, filter) or hit.text)
    return list(found.values())


class Candidates:
    """What the searches put up, the nearest first, and of each part of the score an array with a value for each."""

    def __init__(self, rows: list[ReflectionRow], vectors: np.ndarray):
        self.rows = rows
        self.vectors = vectors
        self.parts: dict[str, np.ndarray] = {}
        self.served: dict[str, Served] = {}
        """Whom they have served, where recency asked for it."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.parts[name]

    def __setitem__(self, name: str, values: np.ndarray) -> None:
        self.parts[name] = values

    def add_relevance(self) -> None:
        """Reciprocal rank fusion of all by cosine and, of those that words found, by BM25: 1 for what leads both."""
        import numpy as np

        # Relative to the best: in a small memory all of BM25 is small.
        bm25 = self["bm25"] / (self["bm25"].max(initial=0) or 1)
        found = bm25 > TELLING
        self["cosine_rank"] = np.asarray(ranks(self["cosine"].tolist()))
        self["bm25_rank"] = np.where(found, ranks(bm25.tolist()), 0)
        self["rrf"] = 1 / (RRF_K + self["cosine_rank"]) + found / (RRF_K + self["bm25_rank"])
        self["relevance"] = self["rrf"] * (RRF_K + 1) / 2

    def add_use(self, measured: Mapping[str, float]) -> None:
        """Add the use, as it is: an uplift next to 0 stays next to nothing, whatever the others have."""
        import numpy as np

        if measured:
            self["use"] = np.asarray([measured.get(row.id, 0.0) for row in self.rows])

    def best(self, k: int, weights: Weights) -> list[int]:
        """The places of `k`, chosen one after the other, each by its worth (at most 1) less its likeness to the others.

        The parts get `score` and, where one was chosen, `overlap`.
        """
        import numpy as np

        weighed = _weighed(self.parts, weights)
        self["score"] = np.sum([weight * self[name] for name, weight in weighed.items()], axis=0)
        gain = (1 - weights.diversity) * self["score"] / sum(weighed.values())
        overlap, met = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        chosen: list[int] = []
        for _ in range(min(k, len(self.rows))):
            # The first of the best, which is the nearer of equals.
            place = int((gain - weights.diversity * overlap).argmax())
            met[place] = overlap[place]
            chosen.append(place)
            gain[place] = -np.inf
            if weights.diversity:
                np.maximum(overlap, self.vectors @ self.vectors[place], out=overlap)
        self["overlap"] = met
        return chosen


def candidates(k: int) -> int:
    """How many reflections each search puts up for `k` hits."""
    return max(CANDIDATES, 3 * k)


def ranks(values: Sequence[float], tie: float = 1e-6) -> list[float]:
    """The rank of each value, 1 for the greatest; those within `tie` of the next greater share the mean of theirs."""
    found = [0.0] * len(values)
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
    first = 0
    for place, at in enumerate(order, 1):
        if place == len(order) or values[at] - values[order[place]] > tie:
            for equal in order[first:place]:
                found[equal] = (first + 1 + place) / 2
            first = place
    return found


def _weighed(parts: Mapping[str, object], weights: Weights) -> dict[str, float]:
    """The weights of the parts that are there."""
    named = {"relevance": weights.relevance, "recency": weights.recency, "importance": weights.importance}
    return named | {"use": weights.use} if "use" in parts else named


def explain(hit: Hit) -> str:
    """One line that says where the score of `hit` comes from and what became of the episodes that it served."""
    part = hit.parts
    places = {name: f"#{part[f'{name}_rank']:g}" if part[f"{name}_rank"] else "unranked" for name in ("cosine", "bm25")}
    fused = ", ".join(f"{name} {part[name]:.2f} {place}" for name, place in places.items())
    sources = {
        "relevance": f"rrf {part['rrf']:.4f}: {fused}",
        "recency": f"{_ago(part['hours'])} ago",
        "importance": "pinned" if hit.reflection.pinned else "as rated",
        "use": "measured",
    }
    summands = " + ".join(
        f"{name} {weight:g}×{part[name]:.2f} ({sources[name]})"
        for name, weight in _weighed(part, hit.weights).items()
        if weight
    )
    likeness = f"; likeness to the hits above {part['overlap']:.2f}" if part.get("overlap") else ""
    served = f"; recalled {hit.recalled}×, won {hit.won} of {hit.ended} ended" if hit.recalled else "; never recalled"
    return f"{hit.score:.2f} = {summands}{likeness}{served}"


def _ago(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
