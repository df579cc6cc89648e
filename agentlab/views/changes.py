"""What was done to the memory: operations, each with what it changed, and what differs between two moments."""

from __future__ import annotations

from pydantic import BaseModel

from agentlab.views.memory_item import Field, Piece, changed_fields, pieces
from agentlab.views.work import refused, waiting
from agentlab.workspace.workspace import Workspace
from memory.records import Reflection
from memory.store import Batch, Change, History, LinkChange, Operation
from memory.text import clean

PAGE = 50
"""Operations of a page, or changes of one."""

BRIEF = 3
"""So many changes of each operation are shown in the list."""


class ChangeLine(BaseModel):
    """A reflection before and after: `kind` is added, removed (from use), returned (to it) or changed."""

    id: str
    kind: str
    env: str
    sort: str
    summary: str
    fields: list[Field]
    text: list[Piece]


class LinkLine(BaseModel):
    """A link before and after, by its weight; None where there was none."""

    source: str
    target: str
    kind: str
    before: float | None
    after: float | None


class OperationLine(BaseModel):
    """What was done in one go, or by one command: `n` operations, `undone` of which are taken back.

    `changes` are some of what it changed, of `changed` in all; `undoable` says that something of it still stands.
    """

    id: str
    at: str
    name: str
    detail: str
    n: int
    undone: int
    changed: int
    undoable: bool
    asked_by: str = ""
    changes: list[ChangeLine] = []
    links: list[LinkLine] = []


class TwoMoments(BaseModel):
    """What differs between two moments: a page of it, the oldest reflection first.

    `start` and `end` are as they were typed, `from_` and `to` as they are stored. `touched` had a version between them.
    """

    start: str
    end: str
    from_: str
    to: str
    touched: int
    changes: list[ChangeLine]


class Changes(BaseModel):
    """What was done to the memory, the newest first, or what differs between two moments.

    `left` are lines about what was asked for and is not done: it waits, or was refused of late.
    """

    total: int
    offset: int
    operations: list[OperationLine]
    left: list[str] = []
    moments: TwoMoments | None = None


class OneChange(BaseModel):
    """An operation, or all that one command did, with a page of what it changed, or of its operations."""

    operation: OperationLine
    parts: list[OperationLine]
    offset: int
    size: int = PAGE


def changes(
    workspace: Workspace, *, offset: int = 0, start: str = "", end: str = "now", namespace: str | None = None
) -> Changes:
    """A page of what was done, or with `start` of what differs between two moments, in a namespace (None: the lab's
    own). Raises BadMoment."""
    past = _past(workspace, namespace)
    if start:
        found = past.diff(start, end, limit=PAGE, offset=offset)
        moments = TwoMoments(
            start=start,
            end=end,
            from_=found.start,
            to=found.end,
            touched=found.touched,
            changes=[_change(one) for one in found.changes],
        )
        return Changes(total=found.touched, offset=offset, operations=[], moments=moments)
    batches = past.batches(limit=PAGE, offset=offset)
    total = workspace.database.operations.count_batches(past.namespace)
    left = [line for line in (waiting(workspace), *refused(workspace)) if line]
    return Changes(total=total, offset=offset, operations=[_line(past, one) for one in batches], left=left)


def one_change(workspace: Workspace, id: str, *, offset: int = 0, namespace: str | None = None) -> OneChange:
    """What one operation, or one command, did in a namespace (None: the lab's own). Raises UnknownOperation."""
    past = _past(workspace, namespace)
    if id.startswith("ops-"):
        parts = past.batch(id)
        first = parts[0]
        whole = OperationLine(
            id=first.batch or id,
            at=first.at,
            name=workspace.database.operations.batch_name(first.batch or id),
            detail=f"{len(parts):,} operations",
            n=len(parts),
            undone=sum(one.undone for one in parts),
            changed=sum(one.changed for one in parts),
            undoable=not all(one.undone for one in parts),
            asked_by=first.asked_by,
        )
        shown = [_operation(past, one, BRIEF) for one in parts[offset : offset + PAGE]]
        return OneChange(operation=whole, parts=shown, offset=offset)
    return OneChange(operation=_operation(past, past.operation(id), None, offset), parts=[], offset=offset)


def _past(workspace: Workspace, namespace: str | None) -> History:
    return History(workspace.database, namespace=workspace.config.namespace if namespace is None else namespace)


def _line(past: History, batch: Batch) -> OperationLine:
    if batch.id.startswith("ops-"):
        return OperationLine(
            **batch._asdict(), undoable=batch.undone < batch.n
        )  # fmt: skip
    return _operation(past, past.operation(batch.id), BRIEF)


def _operation(past: History, one: Operation, most: int | None, offset: int = 0) -> OperationLine:
    size = PAGE if most is None else most
    reflections = past.changes(one.id, limit=size, offset=offset)
    links = past.links(one.id)[offset : offset + size] if one.links else []
    return OperationLine(
        id=one.id,
        at=one.at,
        name=one.name,
        detail=clean(one.detail),
        n=1,
        undone=int(one.undone),
        changed=one.changed,
        undoable=not one.undone and one.changed > 0,
        asked_by=clean(one.asked_by),
        changes=[_change(change) for change in reflections],
        links=[_link(link) for link in links],
    )


def _change(change: Change) -> ChangeLine:
    after: Reflection = change.after
    return ChangeLine(
        id=change.id,
        kind=change.kind,
        env=after.env,
        sort=after.kind,
        summary=clean(after.text),
        fields=changed_fields(change),
        text=pieces(change.before.text, after.text) if change.before else [],
    )


def _link(change: LinkChange) -> LinkLine:
    before, after = (one.weight if one else None for one in change)
    link = change.link
    return LinkLine(source=link.source, target=link.target, kind=link.kind, before=before, after=after)
