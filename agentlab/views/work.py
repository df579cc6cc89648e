"""Work in flight: who writes to a lab now, and how far that is, from the events that it leaves there."""

from __future__ import annotations

import socket
from datetime import datetime

from pydantic import BaseModel

from agentlab.workspace.lock import holder
from agentlab.workspace.workspace import Workspace
from memory.records import now
from memory.store import Event

READ = 2000
"""Events that are looked back upon."""

SILENT = 900.0
"""Seconds after which a process of another machine that told nothing is taken for one that is gone."""

SAID = 5
"""Lines for the person that are shown, the last ones."""


class Stage(BaseModel):
    """How far one stage is.

    `elapsed` is in seconds; `eta` too, and None where nothing can be said of it. `ended` says that nothing more comes.
    """

    name: str
    done: int
    total: int
    elapsed: float
    eta: float | None = None
    note: str = ""
    ended: bool = False


class Work(BaseModel):
    """A process that writes to the lab: what was typed to start it, and its stages, the newest last."""

    command: str
    pid: int
    host: str
    since: str
    stages: list[Stage]
    said: list[str]


def work(workspace: Workspace) -> Work | None:
    """What is in flight in a lab; None if nobody writes to it."""
    at_work = holder(workspace.folder / ".lock")
    if at_work is None:
        return None
    events = workspace.database.events.last(limit=READ, since=at_work.since)
    newest = events[-1].at if events else at_work.since
    if at_work.host != socket.gethostname() and _between(newest, now()) > SILENT:
        return None  # nobody can see from here whether it is still there
    said = [event.note for event in events if event.kind == "say"]
    return Work(
        command=at_work.command,
        pid=at_work.pid,
        host=at_work.host,
        since=at_work.since,
        stages=stages(events),
        said=said[-SAID:],
    )


def stages(events: list[Event], present: str = "") -> list[Stage]:
    """The stages of which some events tell, in the order in which they began."""
    present = present or now()
    begun: dict[str, str] = {}
    last: dict[str, Event] = {}
    for event in events:
        if event.kind == "say":
            continue
        if event.kind == "start" or event.stage not in begun:
            begun.pop(event.stage, None)
            last.pop(event.stage, None)
            begun[event.stage] = event.at
        last[event.stage] = event
    return [_stage(event, begun[name], present) for name, event in last.items()]


def _stage(event: Event, begun: str, present: str) -> Stage:
    ended = event.kind == "finish"
    elapsed = _between(begun, event.at if ended else present)
    spent = _between(begun, event.at)
    rest = event.total - event.done
    # What was finished before it was gone on with says nothing of how quickly the rest goes, but is not known here.
    eta = None if ended or not event.done or not spent else max(0.0, spent / event.done * rest - (elapsed - spent))
    return Stage(
        name=event.stage,
        done=event.done,
        total=event.total,
        elapsed=elapsed,
        eta=eta,
        note=event.note,
        ended=ended,
    )


def _between(earlier: str, later: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())
    except (ValueError, TypeError):  # a file from elsewhere
        return 0.0
