"""The lineage of an adapter as a graph in counts: reflections → episodes → examples → round → adapter → evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel

from trainers.adapters import AdapterRecord, Provenance

Kind = Literal[
    "reflections", "episodes", "examples", "round", "merged", "adapter", "evaluation", "gate", "play", "more"
]
"""What a node stands for, from what was there first to what came of it."""

MOST = 6
"""Nodes of a column that stand for themselves; the others are one together."""


Entry = tuple[Kind, str, str, str]
"""Kind, id, label and note of a node."""


class Node(BaseModel):
    """A node: what it is, how many things it stands for, and its place. `id` names the thing, if it is one."""

    key: str
    kind: Kind
    id: str = ""
    label: str
    note: str = ""
    column: int
    row: int


class Edge(BaseModel):
    """What went from one node into another one, by their keys."""

    source: str
    target: str


class Lineage(BaseModel):
    """The graph; `rows` is the height of its highest column."""

    nodes: list[Node]
    edges: list[Edge]
    rows: int

    @property
    def by_key(self) -> dict[str, Node]:
        """The nodes by their keys."""
        return {node.key: node for node in self.nodes}


def lineage(found: Provenance, *, reflections: int, examples: int) -> Lineage:
    """The graph of one adapter that learned from so many `reflections`, and of whose round `examples` are kept."""
    record = found.record
    columns: list[list[Entry]] = [
        _reflections(reflections),
        _episodes(found),
        _examples(record, examples),
        _made(record),
        [("adapter", record.id, record.id, record.status)],
        _uses(found),
    ]
    nodes = [
        Node(key=f"{column}-{row}", kind=kind, id=id, label=label, note=note, column=column, row=row)
        for column, entries in enumerate(columns)
        for row, (kind, id, label, note) in enumerate(entries)
    ]
    return Lineage(nodes=nodes, edges=_edges(nodes), rows=max(map(len, columns)))


def _reflections(n: int) -> list[Entry]:
    return [("reflections", "", _count(n, "reflection"), "served, or read off")] if n else []


def _episodes(found: Provenance) -> list[Entry]:
    counts = {env: len(ids) for env, ids in found.episodes.items()}
    entries: list[Entry] = [("episodes", env, _count(n, "episode"), env) for env, n in _first(counts).items()]
    if lost := len(set(found.missing)):
        entries.append(("episodes", "", _count(lost, "episode"), "no longer here"))
    if regularised := sum(map(len, found.kl_episodes.values())):
        entries.append(("episodes", "", _count(regularised, "episode"), "kept to the base (KL)"))
    return entries


def _examples(record: AdapterRecord, examples: int) -> list[Entry]:
    n = examples or int(record.training.get("examples") or 0)
    if not n or not record.lineage.round:
        return []
    return [("examples", record.lineage.round, _count(n, "example"), str(record.settings.get("objective", "")))]


def _made(record: AdapterRecord) -> list[Entry]:
    if record.lineage.merge is not None:
        weights = record.lineage.merge.weights
        return [("merged", id, id, f"weight {weight:g}") for id, weight in weights.items()]
    return [("round", record.lineage.round, record.lineage.round, "trained it")] if record.lineage.round else []


def _uses(found: Provenance) -> list[Entry]:
    runs: dict[str, tuple[Kind, int, int]] = {}
    for use in found.uses:
        kind, won, n = runs.get(use.run, (use.kind, 0, 0))
        runs[use.run] = kind, won + use.result.won, n + use.result.n
    shown = list(runs.items())[:MOST]
    entries: list[Entry] = [(kind, run, run, f"{kind}: won {won} of {n}") for run, (kind, won, n) in shown]
    if more := len(runs) - len(shown):
        entries.append(("more", "", f"{more} more", "where it played"))
    return entries


def _first(counts: Mapping[str, int]) -> dict[str, int]:
    """The largest by themselves, and the rest as one."""
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = ordered[MOST:]
    return dict(ordered[:MOST]) | ({f"{len(rest)} other environments": sum(n for _, n in rest)} if rest else {})


def _edges(nodes: Sequence[Node]) -> list[Edge]:
    """From each node to those of the next column that has any."""
    columns = sorted({node.column for node in nodes})
    return [
        Edge(source=one.key, target=other.key)
        for column, following in pairwise(columns)
        for one in nodes
        if one.column == column
        for other in nodes
        if other.column == following
    ]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
