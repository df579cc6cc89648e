"""Episodes: a page of them, counted by environment, arm, split, result, adapter and kind of error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import BaseModel, Field

from agentlab.workspace.workspace import Workspace
from memory.records import ErrorKind, Status, Usage
from memory.store import EpisodeFilter, EpisodeRow, Group, Sort

SIZE = 50
"""Episodes of a page."""

FACETS = ("env", "arm", "split", "status", "adapter", "error_kind")
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
    chosen: dict[str, str | None],
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
    narrowed = EpisodeFilter(run=run, task=task, goal=goal)
    groups = [(group, _count(group, form)) for group in listing.groups(narrowed)]
    wanted = replace(narrowed, minimised=None if form == "all" else form == "shortened", **_columns(chosen))
    fits = [all(_fits(group, name, value) for name, value in chosen.items()) for group, _ in groups]
    total = sum(n for (_, n), fit in zip(groups, fits, strict=True) if fit)
    return EpisodeList(
        total=total,
        offset=offset,
        size=size,
        sort=sort,
        form=form,
        some=bool(groups) or bool(workspace.database.episodes.find(limit=1)),
        facets=[_facet(groups, name, chosen) for name in FACETS],
        episodes=listed(workspace, wanted, sort, limit=size, offset=offset) if offset < total else [],
    )


def _count(group: Group, form: str) -> int:
    return {"all": group.n, "shortened": group.shortened}.get(form, group.n - group.shortened)


def _columns(chosen: dict[str, str | None]) -> dict[str, Any]:
    """The columns of an `EpisodeFilter`."""
    adapter = chosen.get("adapter")
    return {**chosen, "adapter": "" if adapter == BASE else adapter}


def _value(group: Group, name: str) -> str | None:
    found: str | None = getattr(group, name)
    return found or (BASE if name == "adapter" else None)


def _fits(group: Group, name: str, value: str | None) -> bool:
    return value is None or _value(group, name) == value


def _facet(groups: Sequence[tuple[Group, int]], name: str, chosen: dict[str, str | None]) -> Facet:
    others = {other: value for other, value in chosen.items() if other != name and value is not None}
    counts = Counter[str]()
    mine = chosen.get(name)
    if mine is not None:
        counts[mine] = 0
    for group, n in groups:
        value = _value(group, name)
        if value is not None and n and all(_fits(group, other, wanted) for other, wanted in others.items()):
            counts[value] += n
    ranked = sorted(counts.items(), key=lambda pair: (pair[0] != mine, -pair[1], pair[0]))
    return Facet(
        name=name,
        values=[FacetValue(value=value, n=n, chosen=value == mine) for value, n in ranked[:MOST_VALUES]],
        more=max(0, len(ranked) - MOST_VALUES),
    )
