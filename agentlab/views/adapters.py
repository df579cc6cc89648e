"""Adapters: all of a lab and what served when, and one with all that is known of it."""

from __future__ import annotations

import shlex

from pydantic import BaseModel

from agentlab.errors import UnknownRound
from agentlab.views.lineage import Lineage, lineage
from agentlab.views.memories import Asked, select
from agentlab.views.rounds import canary
from agentlab.views.training_examples import count, folder_of
from agentlab.workspace.workspace import Workspace
from trainers.adapters import AdapterRecord, Change, Provenance, how_to_load, how_to_serve, trace
from trainers.errors import TrainersError
from trainers.training import Canary

SIZE = 50
"""Adapters of a part of the list."""

NAMED = 12
"""Reflections that are named; the others are counted."""


class AdapterRow(BaseModel):
    """An adapter in a line; `merged` says of what it was merged, `agent` which of a society it is, `gate` what its gate
    said."""

    id: str
    status: str
    serving: bool
    parent: str | None
    base: str
    created_at: str
    round: str | None
    merged: str
    agent: str
    episodes: int
    passed: bool | None
    gate: str
    forced: bool


class Adapters(BaseModel):
    """A part of the `total` adapters, the newest first, and every change of what serves, the newest first.

    `before` is what a rollback would let serve, where there is one; None is the base.
    """

    total: int
    offset: int
    serving: str | None
    can_roll_back: bool
    before: str | None
    adapters: list[AdapterRow]
    history: list[Change]


class Traced(Provenance):
    """All that the records know of one adapter, and its canary; without one it cannot be loaded."""

    canary: Canary | None = None


class Behind(BaseModel):
    """A reflection from which an adapter learned; `served` is in how many of its episodes it was recalled."""

    id: str
    text: str
    served: int


class Adapter(BaseModel):
    """One adapter.

    Attributes:
        known: where it comes from, and where it was used.
        graph: the same as a graph.
        learned: how many reflections it learned from, which served its episodes or were read off them.
        behind: some of these.
        children: adapters that were trained while this one served.
        merged_into: those that this one was merged into.
        refusal: why it may not be promoted without force; empty where it may.
        can_roll_back: whether it serves, and something served before it.
        before: what a rollback would let serve; None is the base.
        card: its card, as Markdown.
        export, serve, load: what one types to use it elsewhere: exported, served with vLLM, loaded with peft.
    """

    known: Traced
    graph: Lineage
    learned: int
    behind: list[Behind]
    children: list[str]
    merged_into: list[str]
    refusal: str
    can_roll_back: bool
    before: str | None
    card: str
    export: str
    serve: str
    load: str


def adapters(workspace: Workspace, offset: int = 0) -> Adapters:
    """The adapters of a lab, the newest first."""
    registry = workspace.adapters
    found, serving = registry.list()[::-1], registry.serving()
    returning = registry.returning()
    return Adapters(
        total=len(found),
        offset=offset,
        serving=serving,
        can_roll_back=bool(returning),
        before=returning[-1] if returning else None,
        adapters=[_row(record, serving) for record in found[offset : offset + SIZE]],
        history=list(registry.history())[::-1],
    )


def _row(record: AdapterRecord, serving: str | None) -> AdapterRow:
    return AdapterRow(
        id=record.id,
        status=record.status,
        serving=record.id == serving,
        parent=record.parent,
        base=record.base,
        created_at=record.created_at,
        round=record.lineage.round,
        merged=str(record.lineage.merge or ""),
        agent=str(record.lineage.member or ""),
        episodes=len(record.lineage.episodes),
        passed=record.gate.promote if record.gate else None,
        gate=record.gate.reason if record.gate else "was not evaluated at a gate",
        forced=record.forced,
    )


def traced(workspace: Workspace, id: str) -> Traced:
    """All that the records know of one adapter. Raises UnknownAdapter."""
    found = trace(workspace.adapters, id)
    return Traced(**dict(found), canary=canary(workspace, found.record.id))


def adapter(workspace: Workspace, id: str) -> Adapter:
    """All that is known of one adapter. Raises UnknownAdapter."""
    registry, known = workspace.adapters, traced(workspace, id)
    record, others = known.record, registry.list()
    returning = registry.returning()
    some, learned = select(workspace, Asked(adapter=record.id), limit=NAMED)
    folder = f"./{record.id}"
    rank = int(record.settings.get("rank") or (record.lineage.merge.rank if record.lineage.merge else 0) or 16)
    return Adapter(
        known=known,
        graph=lineage(known, reflections=learned, examples=_examples(workspace, record)),
        learned=learned,
        behind=[Behind(id=item.id, text=item.text, served=known.reflections.get(item.id, 0)) for item in some],
        children=[other.id for other in others if other.parent == record.id and other.lineage.merge is None],
        merged_into=[other.id for other in others if other.lineage.merge and record.id in other.lineage.merge.weights],
        refusal=_refusal(record),
        can_roll_back=known.serving and bool(returning),
        before=returning[-1] if returning else None,
        card=_card(workspace, record),
        export=shlex.join(["agentlab", "adapters", "export", record.id, folder, "--lab", str(workspace.folder)]),
        serve=f"cd {shlex.quote(folder)} && {how_to_serve(record.id, record.base, rank)}",
        load=how_to_load(folder),
    )


def _examples(workspace: Workspace, record: AdapterRecord) -> int:
    if record.lineage.member is not None:  # of several jobs of its round
        return int(record.training.get("examples", 0))
    try:
        return count(folder_of(workspace, record.lineage.round)) if record.lineage.round else 0
    except UnknownRound:
        return 0


def _refusal(record: AdapterRecord) -> str:
    if record.gate is None:
        return "it was not evaluated at a gate"
    return "" if record.gate.promote else record.gate.reason


def _card(workspace: Workspace, record: AdapterRecord) -> str:
    try:
        return workspace.adapters.card(record.id)
    except TrainersError as error:
        return str(error)
