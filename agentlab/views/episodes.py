"""Episodes: a page of them, counted by environment, arm, split, result, adapter and kind of error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import BaseModel, Field

from agentlab.workspace.workspace import Workspace
from memory.records import ErrorKind, Status, Usage
from memory.store import EpisodeFilter, EpisodeRow, Sort
from memory.store import Facet as Property

SIZE = 50
"""Episodes of a page."""

CROSSED: tuple[Property, ...] = ("env", "arm", "split", "status")
FACETS: tuple[Property, ...] = (*CROSSED, "adapter", "error_kind")
BASE = "none"
"""The value of the facet `adapter` for episodes that were played without one."""

MOST_VALUES = 30
"""Values of a facet that are counted one by one, the most frequent."""

FORMS = ("played", "shortened", "all")
"""Which episodes: those that were played, shortened forms of successes, which nobody played, or both."""


class EpisodeItem(BaseModel):
    """An episode without its steps; `steps` is their number. `usage` is left out where nothing is known of it."""

    id: str
    run: str
    env: str
    split: str
    seed: int
    task: str
    trial: int
    arm: str
    engine: str
    adapter: str | None
    status: Status
    score: float
    steps: int
    goal: str
    error: str | None
    minimised_from: str | None
    started_at: str
    seconds: float
    error_kind: ErrorKind | None
    input_tokens: int
    output_tokens: int
    cost: float
    usage: Usage | None = Field(None, exclude_if=lambda usage: usage is None)

    @property
    def tokens(self) -> int:
        """Tokens that the model read and wrote."""
        return self.input_tokens + self.output_tokens


class FacetValue(BaseModel):
    """One value of a facet, and how many episodes would be listed if it was chosen."""

    value: str
    n: int
    chosen: bool


class Facet(BaseModel):
    """A property by which the list is narrowed; `more` values are not counted one by one."""

    name: str
    values: list[FacetValue]
    more: int = 0


class EpisodeList(BaseModel):
    """A page of the `total` episodes that fit; `some` says whether the lab has any at all."""

    total: int
    offset: int
    size: int
    sort: Sort
    form: str
    some: bool
    facets: list[Facet]
    episodes: list[EpisodeItem]


def item(row: EpisodeRow) -> EpisodeItem:
    """An episode as it is listed."""
    usage = Usage(input_tokens=row.input_tokens, output_tokens=row.output_tokens, cost=row.cost)
    return EpisodeItem(**asdict(row), usage=usage or None)


def listed(
    workspace: Workspace, wanted: EpisodeFilter, sort: Sort = "newest", *, limit: int, offset: int = 0
) -> list[EpisodeItem]:
    """At most `limit` of the episodes that are `wanted`, in this order."""
    rows = workspace.database.episode_listing.page(wanted, sort, limit=limit, offset=offset)
    return [item(row) for row in rows]


def episodes(
    workspace: Workspace,
    chosen: Mapping[str, str | None],
    *,
    run: str | None = None,
    task: str | None = None,
    goal: str | None = None,
    form: str = "played",
    sort: Sort = "newest",
    offset: int = 0,
    size: int = SIZE,
) -> EpisodeList:
    """A page of episodes. `chosen` are values of `FACETS`; each is counted among what fits all the others."""
    listing = workspace.database.episode_listing
    narrowed = EpisodeFilter(
        run=run, task=task, goal=goal, minimised=None if form == "all" else form == "shortened", **_columns(chosen)
    )
    # The four that come first in the index are counted crosswise in one pass, the others alone; in what a search for a
    # goal finds, which takes longest, all are.
    crossed = CROSSED if goal is None else FACETS
    groups = {
        tuple(value or (BASE if name == "adapter" else "") for name, value in zip(crossed, values, strict=True)): n
        for values, n in listing.counts(crossed, replace(narrowed, **dict.fromkeys(crossed))).items()
    }
    counts: dict[str, Mapping[str, int]] = {name: _others(groups, crossed, chosen, name) for name in crossed}
    if crossed is CROSSED:
        adapters = listing.counts(("adapter",), replace(narrowed, adapter=None))
        kinds = listing.counts(("error_kind",), replace(narrowed, error_kind=None, status=narrowed.status or "errored"))
        counts["adapter"] = {adapter or BASE: n for (adapter,), n in adapters.items()}
        counts["error_kind"] = {kind or "": n for (kind,), n in kinds.items()}
    total = sum(n for values, n in groups.items() if _fits(values, crossed, chosen))
    return EpisodeList(
        total=total,
        offset=offset,
        size=size,
        sort=sort,
        form=form,
        some=total > 0 or bool(workspace.database.episodes.find(limit=1)),
        facets=[_facet(name, counts[name], chosen.get(name)) for name in FACETS],
        episodes=listed(workspace, narrowed, sort, limit=size, offset=offset) if offset < total else [],
    )


def _columns(chosen: Mapping[str, str | None]) -> dict[str, Any]:
    """The columns of an `EpisodeFilter`."""
    return {**chosen, "adapter": "" if chosen.get("adapter") == BASE else chosen.get("adapter")}


def _others(
    groups: Mapping[tuple[str, ...], int], names: Sequence[str], chosen: Mapping[str, str | None], facet: str
) -> Counter[str]:
    """How many have each value of a facet, of those that fit what is chosen of the others."""
    others = {**chosen, facet: None}
    place, counts = names.index(facet), Counter[str]()
    for values, n in groups.items():
        if _fits(values, names, others):
            counts[values[place]] += n
    return counts


def _fits(values: Sequence[str], names: Sequence[str], chosen: Mapping[str, str | None]) -> bool:
    return all(chosen.get(name) in (None, value) for name, value in zip(names, values, strict=True))


def _facet(name: str, counts: Mapping[str, int], mine: str | None) -> Facet:
    known = {value: n for value, n in counts.items() if value}
    if mine is not None:
        known.setdefault(mine, 0)
    ranked = sorted(known.items(), key=lambda pair: (pair[0] != mine, -pair[1], pair[0]))
    return Facet(
        name=name,
        values=[FacetValue(value=value, n=n, chosen=value == mine) for value, n in ranked[:MOST_VALUES]],
        more=max(0, len(ranked) - MOST_VALUES),
    )
