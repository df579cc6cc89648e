"""Work in flight: who writes to a lab now, and how far that is, from the events that it leaves there."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from itertools import pairwise

from pydantic import BaseModel

from agentlab.workspace.lock import holder
from agentlab.workspace.workspace import Workspace
from memory.records import now
from memory.store import Event
from memory.text import clean

READ = 2000
"""Events that are looked back upon."""

SILENT = 900.0
"""Seconds after which a process of another machine that told nothing is taken for one that is gone."""

SAID = 5
"""Lines for the person that are shown, the last ones."""


class Stage(BaseModel):
    """How far one stage is.

    `elapsed` is in seconds, and at least that where it has `begun_earlier` than what is looked back upon; `eta` is in
    seconds too, and None where nothing can be said of it. `ended` says that nothing more comes.
    """

    name: str
    done: int
    total: int
    elapsed: float
    begun_earlier: bool = False
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


def neglected(workspace: Workspace) -> str:
    """A line that tells of small changes that wait though nobody writes to the lab; empty where none do."""
    count, since = workspace.database.inbox.waiting()
    if not count or holder(workspace.folder / ".lock") is not None:
        return ""
    return (
        f"{_wait(count)} since {since[:19]} though nobody writes to the lab; any command that changes it, such as "
        "`agentlab run` or `agentlab memory pin`, does them first."
    )


def waiting(workspace: Workspace) -> str:
    """A line that tells of small changes that wait, whoever writes to the lab; empty where none do."""
    count, since = workspace.database.inbox.waiting()
    if not count or holder(workspace.folder / ".lock") is None:
        return neglected(workspace)
    return f"{_wait(count)} since {since[:19]}; whoever writes to the lab does them in their order, between other work."


def _wait(count: int) -> str:
    return "1 small change waits" if count == 1 else f"{count:,} small changes wait"


def refused(workspace: Workspace) -> list[str]:
    """Of each small change that was noted within the last day, and then refused, a line that says why."""
    since = (datetime.fromisoformat(now()) - timedelta(days=1)).isoformat(timespec="microseconds")
    return [
        f"What {clean(one.asked_by)} asked for at {clean(one.at)[:19]} was not done: {clean(one.refusal or '')}"
        for one in workspace.database.inbox.refused(since)
    ]


def stages(events: list[Event], present: str = "") -> list[Stage]:
    """The stages of which some events tell, in the order in which they began."""
    present = present or now()
    told: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "say":
            continue
        if event.kind == "start":
            told.pop(event.stage, None)
        told.setdefault(event.stage, []).append(event)
    return [_stage(each, present) for each in told.values()]


def _stage(events: list[Event], present: str) -> Stage:
    first, last = events[0], events[-1]
    ended = last.kind == "finish"
    return Stage(
        name=last.stage,
        done=last.done,
        total=last.total,
        elapsed=_between(first.at, last.at if ended else present),
        begun_earlier=first.kind != "start",
        eta=None if ended else _left(events, present),
        note=last.note,
        ended=ended,
    )


def _left(events: list[Event], present: str) -> float | None:
    """What is left at the pace of the units that were seen to be done.

    The first event after the start may count what was finished before work went on, in no time, so that the pace is
    that since then. A unit that takes long may come again: no less is left than the longest wait so far.
    """
    seen = events if len(events) > 1 and events[1].done == 1 else [one for one in events if one.kind == "advance"]
    if len(seen) < 2:
        return None
    spent, units = _between(seen[0].at, seen[-1].at), seen[-1].done - seen[0].done
    if not spent or units <= 0:
        return None
    rest, waited = seen[-1].total - seen[-1].done, _between(seen[-1].at, present)
    if rest <= 0:
        return 0.0
    longest = max(_between(one.at, other.at) for one, other in pairwise(seen))
    return max(spent / units * rest - waited, longest, waited)


def _between(earlier: str, later: str) -> float:
    try:
        return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())
    except (ValueError, TypeError):  # a file from elsewhere
        return 0.0
