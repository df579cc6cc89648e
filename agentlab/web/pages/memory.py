"""The page Memory: the list, searched, narrowed and sorted, and what is done to what was ticked."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import parse_qsl

from agentlab.views.memories import PAGE, SORTS, Memories, memories
from agentlab.views.memories import Asked as Wanted
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.page import Done, Page, SmallChange, Tab
from agentlab.workspace.requests import Mend, Outcome
from agentlab.workspace.workspace import Workspace
from memory.records import now
from memory.store import VERBS, Filter, Verb
from memory.text import typed

TAB = Tab("Memory", "memory")

STATUSES = ("active", "benched", "forgotten", "merged", "repeated", "retired")
TIERS = ("raw", "summary", "rule")

AGENT = "-"
"""In an address, what is empty: the source that is the agent itself, no environment, the namespace without a name. An
empty value asks nothing."""


class MemoryPage(Memories):
    """The list with what its forms need to know."""

    sorts: tuple[str, ...] = SORTS
    size: int = PAGE


def _view(lab: Workspace, asked: Asked) -> MemoryPage:
    found = memories(lab, wanted(asked), offset=asked.number("offset", 0))
    return MemoryPage(**found.__dict__)


def wanted(asked: Asked) -> Wanted:
    """What an address asks of the memory. Raises BadAddress, BadMoment."""
    kind, source, of = asked.maybe("kind"), asked.maybe("source"), asked.maybe("of")
    status = asked.choice("status", STATUSES) or None
    pinned = asked.choice("pinned", ("yes", "no"))
    present = now()
    return Wanted(
        Filter(
            env="" if asked.maybe("env") == AGENT else asked.maybe("env"),
            kinds=[kind] if kind else None,
            status=cast("Any", status),
            tier=cast("Any", asked.choice("tier", TIERS) or None),
            source="" if source == AGENT else source,
            tag=asked.maybe("tag"),
            pinned=pinned == "yes" if pinned else None,
            on_probation=True if asked.choice("probation", ("yes",)) else None,
            after=typed(asked.text("after"), present) if asked.text("after") else None,
            before=typed(asked.text("before"), present) if asked.text("before") else None,
            merged_into=of,
            namespace=namespace(asked),
            repeats=status == "repeated" or of is not None,
        ),
        adapter=asked.maybe("adapter"),
        search=asked.text("search"),
        by=cast("Any", asked.choice("by", ("words", "meaning"), "words")),
        sort=cast("Any", asked.choice("sort", SORTS) or None),
    )


def namespace(asked: Asked) -> str | None:
    """The namespace that an address or a form names; None for the lab's own."""
    named = asked.maybe("namespace")
    return None if named is None else named.removeprefix(AGENT)


MEMORY = Page("/memory", "memory.html", _view, TAB, lambda view: "Memory")


def _mend(_: Workspace, asked: Asked) -> Mend:
    verb = asked.choice("verb", VERBS)
    ids = asked.values.get("id", "").split()
    if not verb or not ids:
        raise BadAddress("Nothing was ticked, so nothing was changed; tick some rows and say what to do with them.")
    reason = asked.text("reason")
    if not reason:
        raise BadAddress("A reason is missing, so nothing was changed; it is kept in the history.")
    return Mend(verb=cast("Verb", verb), ids=ids, reason=reason)


def _mended(_: Workspace, asked: Asked, done: Outcome | None) -> Done:
    # Back to the same part of the list.
    kept = {name: value for name, value in parse_qsl(asked.text("back").lstrip("?")) if name not in ("done", "undo")}
    return Done(done.line if done else "", "/memory", {**kept, "undo": (done and done.operation) or ""})


MEND = SmallChange("/memory/mend", _mend, _mended)
