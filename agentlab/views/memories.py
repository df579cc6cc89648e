"""The memory as a list: what it holds, what each item is worth and how sure that is, and where it went.

Everything is read from indexes, sorted by numbers of which a process keeps those that take longer than a page may
(`Standings`), and only the rows of one page are read whole. No model is loaded, unless a search by meaning asks for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from agentlab.errors import BadConfig
from agentlab.views.memory_answers import Item, fields
from agentlab.views.standings import credit, kept, standings
from agentlab.workspace.workspace import Workspace
from memory.index import BM25
from memory.records import Reflection
from memory.store import (
    Database,
    Filter,
    Listing,
    Order,
    RecallCount,
    ReflectionFacet,
    repeat_counts,
    tallies,
    with_tally,
)
from trainers.adapters import Taught, learned_from

if TYPE_CHECKING:
    import numpy as np

PAGE = 50
"""Rows of a page."""

DEEP = 2000
"""From this row on, a list is cut from one order of all, which is kept."""

MOST_HITS = 1000
"""So many hits of a search by words are looked at."""

Sort = Literal["age", "uplift", "harm", "recalled", "importance"]
SORTS: tuple[Sort, ...] = ("age", "uplift", "harm", "recalled", "importance")

_PLAIN: dict[Sort, Order] = {"age": "newest", "importance": "importance"}
"""The sorts for which a reflection's own row is enough."""

FACETS = ("status", "kind", "env", "tier", "source")
"""What a list is narrowed by with one click; each a property of `ReflectionFacet`."""


LISTED = Filter(status=None, repeats=False)
"""What a list shows that nothing narrows: what repeats another one is counted with that one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the memory is asked for; `wanted` says which reflections, without a namespace of the lab's own.

    `adapter` (an id) lets in only what that adapter learned from, `ids` only these. A `search` gives its hits, the best
    first, by `words` or by `meaning`, where `sort` (None) is not another order.
    """

    wanted: Filter = LISTED
    adapter: str | None = None
    search: str = ""
    by: Literal["words", "meaning"] = "words"
    sort: Sort | None = None


class Effect(BaseModel):
    """What a reflection changes: success when served less success when held out, with its interval.

    `below` is the probability that it is below 0; `p` is of the exact test of no effect. The rest are the episodes on
    which it rests.
    """

    mean: float
    low: float
    high: float
    below: float
    p: float
    served: int
    served_won: int
    held_out: int
    held_out_won: int

    @property
    def n(self) -> int:
        """The episodes on which it rests."""
        return self.served + self.held_out


class MemoryRow(Item):
    """A reflection in a row of a list.

    `games` is in how many games it was seen, of those `of` that answer its question (0: there is none). `uplift` is
    None where it was not measured. `repeats` are the reflections that are counted with it, `adapters` those that
    learned from it.
    """

    games: int
    of: int
    last: str | None
    uplift: Effect | None
    repeats: int
    adapters: list[Taught]


class Memories(BaseModel):
    """A page of the reflections that are asked for; `facets` say how many of them there are of each sort, `namespaces`
    how many reflections the lab has in each. `among` is how many hits of a search these are of, where it may have
    more."""

    total: int
    among: int | None = None
    offset: int
    items: int
    facets: dict[str, dict[str, int]]
    pinned: int
    on_probation: int
    namespaces: dict[str, int]
    adapters: list[str]
    rows: list[MemoryRow]


def memories(workspace: Workspace, asked: Asked, *, offset: int = 0, limit: int = PAGE) -> Memories:
    """A page of the memory. Raises UnknownAdapter."""
    database = workspace.database
    found = _Found(workspace, asked)
    numbers = found.page(offset, limit)
    loaded = database.reflections.load(numbers)
    return Memories(
        total=found.total,
        among=found.cut,
        offset=offset,
        items=found.items,
        facets={name: found.facet(name) for name in FACETS},
        pinned=found.facet("pinned").get("1", 0),
        on_probation=found.on_probation(),
        namespaces=kept(workspace, "namespaces", database.reflections.last_change(), database.reflections.namespaces),
        adapters=[record.id for record in reversed(workspace.adapters.list())],
        rows=rows(workspace, [loaded[number] for number in numbers if number in loaded]),
    )


def select(workspace: Workspace, asked: Asked, *, limit: int | None = None) -> tuple[list[Reflection], int]:
    """The reflections that are asked for, at most `limit`, and how many there are. Raises UnknownAdapter."""
    found = _Found(workspace, asked)
    numbers = found.page(0, found.total if limit is None else limit)
    loaded = workspace.database.reflections.load(numbers)
    return [loaded[number] for number in numbers if number in loaded], found.total


def rows(workspace: Workspace, reflections: Sequence[Reflection]) -> list[MemoryRow]:
    """What is known of each of these reflections, in a row."""
    database, ids = workspace.database, [item.id for item in reflections]
    served = database.recalls.served(ids)
    seen = tallies(database, reflections)
    uplifts = credit(workspace).uplifts(ids)
    repeated = repeat_counts(database.connection, ids)
    taught = learned_from(workspace.adapters, reflections)
    found = []
    for item in reflections:
        whom, tally, measured = served.get(item.id), seen[item.id], uplifts.get(item.id)
        count = RecallCount(*whom[:3]) if whom else RecallCount(0, 0, 0)
        found.append(
            MemoryRow(
                **fields(item, count, with_tally(item, tally)),
                games=tally.games,
                of=tally.of,
                last=whom.last if whom else None,
                uplift=effect(measured) if measured else None,
                repeats=repeated.get(item.id, 0),
                adapters=taught.get(item.id, []),
            )
        )
    return found


def effect(measured: Any) -> Effect:
    """An `Uplift` as a record."""
    return Effect(**{name: getattr(measured, name) for name in Effect.model_fields})


class _Found:
    """The reflections that are asked for, by their numbers."""

    def __init__(self, workspace: Workspace, asked: Asked) -> None:
        self.workspace = workspace
        self.database = workspace.database
        own, named = workspace.config.namespace, asked.wanted.namespace
        self.wanted = replace(asked.wanted, namespace=own if named is None else named)
        self.sort = asked.sort
        # How many there would be with another value of one property, too: so without what is asked of any.
        self._opened = replace(
            self.wanted, status=None, kinds=None, env=None, tier=None, source=None, pinned=None, repeats=True
        )
        self._hits = self._searched(asked) if asked.search else None
        most = MOST_HITS if asked.by == "words" else PAGE
        self.cut = len(self._hits) if self._hits is not None and len(self._hits) >= most else None
        if self._hits:
            self._hits = [*self._hits, *self._repeating(self._hits)]
        among = self._hits
        if asked.adapter:
            taught = self._taught(asked.adapter)
            among = [number for number in among if number in taught] if among is not None else sorted(taught)
        if self.wanted.tag is not None:
            tagged = self._tagged(self.wanted.tag)
            among = [number for number in among if number in tagged] if among is not None else sorted(tagged)
            # Looked up once: no index has the tags.
            self.wanted, self._opened = replace(self.wanted, tag=None), replace(self._opened, tag=None)
        self.listing = Listing(self.database.connection, self.wanted, among)
        self._among = among
        self._facets = self._facets_of(self._opened, among)
        self.total = sum(one.n for one in self._facets if self._fits(one))

    @property
    def items(self) -> int:
        """How many reflections there are, whatever is asked for."""
        everything = Filter(status=None, namespace=self.wanted.namespace)
        return sum(one.n for one in self._facets_of(everything))

    def _facets_of(self, wanted: Filter, among: Sequence[int] | None = None) -> list[ReflectionFacet]:
        listing = Listing(self.database.connection, wanted, among)
        if among is not None or wanted != Filter(status=None, namespace=wanted.namespace):
            return listing.facets()
        mark = (wanted.namespace, self.database.reflections.last_change())
        found: list[ReflectionFacet] = kept(self.workspace, "facets", mark, listing.facets)
        return found

    def facet(self, name: str) -> dict[str, int]:
        """How many of what is otherwise asked for have each value of one property, the most frequent first."""
        counts = Counter[str]()
        for one in self._facets:
            if self._fits(one, but=name):
                counts[str(getattr(one, name))] += one.n
        return dict(counts.most_common())

    def on_probation(self) -> int:
        """How many of what is otherwise asked for are on probation."""
        if not any(one.source for one in self._facets):
            return 0
        listing = Listing(self.database.connection, replace(self.wanted, on_probation=True), self._among)
        # Which are is in no index: it is counted anew only where something has changed.
        mark = (self.wanted, self._among and tuple(self._among), self.database.reflections.last_change())
        found: int = kept(self.workspace, "on probation", mark, listing.count)
        return found

    def _fits(self, one: ReflectionFacet, but: str = "") -> bool:
        wanted = self.wanted
        asked: dict[str, object] = {
            "status": wanted.status, "kind": wanted.kinds and wanted.kinds[0], "env": wanted.env,
            "tier": wanted.tier, "source": wanted.source,
            "pinned": None if wanted.pinned is None else int(wanted.pinned),
        }  # fmt: skip
        if not wanted.repeats and one.status == "repeated" and but != "status":
            return False
        return all(value is None or name == but or getattr(one, name) == value for name, value in asked.items())

    def page(self, offset: int, limit: int) -> list[int]:
        """The numbers of one page."""
        if self.sort is None and self._hits is not None:
            fitting = set(self.listing.numbers().tolist())
            return [number for number in self._among or () if number in fitting][offset : offset + limit]
        plain = _PLAIN.get(self.sort or "age")
        if plain and offset < DEEP:
            return self.listing.page(plain, limit, offset)
        import numpy as np

        order = self._all(plain) if plain else standings(self.workspace).orders[self.sort or ""]
        numbers = self.listing.numbers()
        marked = np.zeros(1 + max(order.max(initial=0), numbers.max(initial=0)), dtype=bool)
        marked[numbers] = True
        known = order[marked[order]]
        # What was written since the order was made comes last.
        marked[known] = False
        found: list[int] = np.concatenate([known, marked.nonzero()[0][::-1]])[offset : offset + limit].tolist()
        return found

    def _all(self, order: Order) -> np.ndarray:
        """The numbers of all reflections of the namespace in an order that has to be sorted anew for every page."""
        import numpy as np

        everything = Filter(status=None, namespace=self.wanted.namespace)
        listing = Listing(self.database.connection, everything)
        mark = (everything.namespace, self.database.reflections.last_change())
        found: np.ndarray = kept(self.workspace, order, mark, lambda: np.asarray(listing.page(order, -1), np.int64))
        return found

    def _searched(self, asked: Asked) -> list[int]:
        """The numbers of what a search finds, the best first, whatever it is narrowed by; kept for the pages that
        follow."""
        database, wanted = self.database, self._opened
        if asked.by == "meaning" and wanted.namespace != self.workspace.config.namespace:
            raise BadConfig("By meaning only the lab's own namespace is searched; search the others by words.")
        if asked.by == "meaning":
            hits = self.workspace.memory.search(asked.search, k=PAGE, wanted=wanted)
            return [database.reflections.number(hit.reflection.id) for hit in hits]

        def found() -> list[int]:
            words: BM25 = kept(self.workspace, "words", None, lambda: BM25(database))
            return [number for number, _ in words.search(asked.search, MOST_HITS, wanted)]

        mark = (asked.search, str(wanted), database.reflections.last_change())
        numbers: list[int] = kept(self.workspace, "hits", mark, found)
        return numbers

    def _repeating(self, numbers: list[int]) -> list[int]:
        """What says again what these say: no search finds it by itself."""

        def found() -> list[int]:
            rows = self.database.connection.execute(
                "SELECT number FROM reflections WHERE status = 'repeated' AND merged_into IN "
                "(SELECT id FROM reflections WHERE number IN (SELECT value FROM json_each(?))) ORDER BY number",
                (json.dumps(numbers),),
            )
            return [number for (number,) in rows]

        mark = (tuple(numbers), self.database.reflections.last_change())
        repeating: list[int] = kept(self.workspace, "repeating", mark, found)
        return repeating

    def _tagged(self, tag: str) -> set[int]:
        wanted = Filter(status=None, namespace=self.wanted.namespace, tag=tag)
        mark = (tag, wanted.namespace, self.database.reflections.last_change())
        listing = Listing(self.database.connection, wanted)
        found: set[int] = kept(self.workspace, "tagged", mark, lambda: set(listing.numbers().tolist()))
        return found

    def _taught(self, adapter: str) -> set[int]:
        registry, reflections = self.workspace.adapters, self.database.reflections
        record = registry.get(adapter)
        trained = registry.trained(record)
        read_off = [
            item.id
            for item in reflections.load(reflections.written_in(sorted(trained))).values()
            if any(one.episode in trained for one in item.evidence)
        ]
        return _numbers_up(self.database, {*registry.served(record), *read_off})


def _numbers_up(database: Database, ids: Iterable[str]) -> set[int]:
    """The numbers of some reflections and of all that they are counted with."""
    rows = database.connection.execute(
        "WITH RECURSIVE up (number, next) AS (SELECT number, merged_into FROM reflections "
        "WHERE id IN (SELECT value FROM json_each(?)) UNION "
        "SELECT reflections.number, reflections.merged_into FROM up JOIN reflections ON reflections.id = up.next) "
        "SELECT number FROM up",
        (json.dumps(list(ids)),),
    )
    return {number for (number,) in rows}
