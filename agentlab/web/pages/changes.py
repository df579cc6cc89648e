"""The page Changes: what was done to the memory, taken back by a click, and what differs between two moments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from agentlab.views.changes import PAGE, Changes, OneChange, changes, one_change
from agentlab.web.asked import Asked
from agentlab.web.page import Done, Page, SmallChange, Tab
from agentlab.web.pages.memory import namespace
from agentlab.workspace.requests import Outcome, Undo
from agentlab.workspace.workspace import Workspace

TAB = Tab("Changes", "changes")


class ChangesPage(Changes):
    """The list with what its pager needs to know."""

    size: int = PAGE


def _view(lab: Workspace, asked: Asked) -> ChangesPage:
    found = changes(
        lab, offset=asked.number("offset", 0), start=asked.text("from"), end=asked.text("to", "now"),
        namespace=namespace(asked),
    )  # fmt: skip
    return ChangesPage(**found.__dict__)


def _one(lab: Workspace, asked: Asked) -> OneChange:
    return one_change(lab, asked.text("id"), offset=asked.number("offset", 0), namespace=namespace(asked))


def _exported(lab: Workspace) -> Iterator[Mapping[str, str]]:
    for operation in changes(lab).operations:
        yield {"id": operation.id}


def _undo(lab: Workspace, asked: Asked) -> Undo:
    whose = namespace(asked)
    return Undo(operation=asked.text("id"), namespace=lab.config.namespace if whose is None else whose)


def _undone(_: Workspace, asked: Asked, done: Outcome | None) -> Done:
    again = (done and done.operation) or ""
    back = urlsplit(asked.text("back"))
    kept = {name: value for name, value in parse_qsl(back.query) if name not in ("done", "undo")}
    return Done(
        f"Undid {asked.text('id')}.", back.path if back.path.startswith("/") else "/changes", {**kept, "undo": again}
    )


CHANGES = Page("/changes", "changes.html", _view, TAB, lambda view: "Changes")
CHANGE = Page(
    "/changes/{id}", "change.html", _one, TAB, lambda view: cast("OneChange", view).operation.id, _exported
)  # fmt: skip
UNDO = SmallChange("/changes/{id}/undo", _undo, _undone)
