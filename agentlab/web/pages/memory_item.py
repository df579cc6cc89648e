"""The page of one reflection, with what can be done to it, and why it would be recalled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from agentlab.lab import Lab
from agentlab.views.memories import Asked as Wanted
from agentlab.views.memories import select
from agentlab.views.memory_item import RECALLS, MemoryItem, memory_item
from agentlab.views.why_recalled import WhyRecalled, why_recalled
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.page import Action, Done, Page, SmallChange
from agentlab.web.pages.memory import AGENT, TAB
from agentlab.workspace.purging import Purging, plan, purge_all
from agentlab.workspace.requests import Edit, Mend, Outcome
from agentlab.workspace.workspace import Workspace
from memory.errors import MemoryStoreError
from memory.store import VERBS, Verb

EXPORTED = 500
"""So many pages of reflections an export writes, the newest."""


class MemoryItemPage(MemoryItem):
    """A reflection; `why` is what a query recalls, where one was asked, `purging` what deleting it would do, where that
    was asked, and `problem` why it cannot be. `elsewhere` names its namespace where that is not the lab's."""

    why: WhyRecalled | None = None
    purging: str = ""
    problem: str = ""
    elsewhere: str = ""
    size: int = RECALLS


def _view(lab: Workspace, asked: Asked) -> MemoryItemPage:
    item = memory_item(lab, asked.text("id"), offset=asked.number("offset", 0))
    found = MemoryItemPage(**item.__dict__, elsewhere=_elsewhere(lab, item.namespace))
    if query := asked.text("why"):
        env = asked.text("env", item.row.env)
        found.why = why_recalled(lab, query, "" if env == "any" else env, item.row.kind)
    if asked.text("purge"):
        try:
            found.purging = plan(lab, [item.row.id]).line
        except MemoryStoreError as refused:
            found.problem = str(refused)
    return found


def _exported(lab: Workspace) -> Iterator[Mapping[str, str]]:
    for reflection in select(lab, Wanted(), limit=EXPORTED)[0]:
        yield {"id": reflection.id}


def _title(view: object) -> str:
    return f"Memory {cast('MemoryItem', view).row.id}"


ITEM = Page("/memory/{id:path}", "memory_item.html", _view, TAB, _title, _exported)


def _elsewhere(lab: Workspace, namespace: str) -> str:
    return "" if namespace == lab.config.namespace else namespace or AGENT


def _done(lab: Workspace, asked: Asked, done: Outcome | None) -> Done:
    id = asked.text("id")
    namespace = _elsewhere(lab, lab.database.reflections.get(id).namespace)
    return Done(done.line if done else "", _path(id), {"undo": (done and done.operation) or "", "namespace": namespace})


def _reason(asked: Asked) -> str:
    reason = asked.text("reason")
    if not reason:
        raise BadAddress("A reason is missing, so nothing was changed; it is kept in the history.")
    return reason


def _mend(_: Workspace, asked: Asked) -> Mend:
    verb, reason = asked.choice("verb", VERBS), _reason(asked)
    if not verb:
        raise BadAddress(f"Nothing says what to do; give one of {', '.join(VERBS)}.")
    return Mend(verb=cast("Verb", verb), ids=[asked.text("id")], reason=reason)


def _edit(_: Workspace, asked: Asked) -> Edit:
    reason, text = _reason(asked), asked.values.get("text", "").replace("\r\n", "\n").strip()
    return Edit(id=asked.text("id"), text=text, reason=reason, seen=asked.text("seen") or None)


def _purge(lab: Lab, asked: Asked) -> Done:
    id = lab.database.reflections.full_id(asked.text("id"))
    if asked.text("name") != id:
        raise BadAddress(f"'{asked.text('name')}' is not {id}, so nothing was deleted.")
    done: Purging = purge_all(lab, [id], _reason(asked))
    return Done(" ".join([done.line, *done.notes]), "/memory", {})


def _path(id: str) -> str:
    from urllib.parse import quote

    return f"/memory/{quote(id, safe='')}"


ITEM_ACTIONS = (
    SmallChange("/memory/{id:path}/mend", _mend, _done),
    SmallChange("/memory/{id:path}/edit", _edit, _done),
    Action("/memory/{id:path}/purge", _purge),
)
