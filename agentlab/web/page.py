"""A page: an address, the read model that stands behind it, and the template that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import BaseModel

from agentlab.lab import Lab
from agentlab.web.asked import Asked
from agentlab.workspace.requests import Outcome, Request
from agentlab.workspace.workspace import Workspace


class Tab(NamedTuple):
    """An entry of the navigation, in labs of which `shown` holds."""

    title: str
    key: str
    shown: Callable[[Workspace], bool] = lambda _: True


def _none(_: Workspace) -> Iterable[Mapping[str, str]]:
    return ({},)


@dataclass(frozen=True)
class Page:
    """One page of a lab.

    Attributes:
        path: its address below the lab, as Starlette writes it, such as `/episodes/{id}`.
        template: the file in `templates/`.
        view: reads the lab, and gives what the page shows; the page's `.json` twin is that model.
        tab: what of the navigation it belongs to.
        title: of the window; a function of the model.
        texts: what else there is of the model at the same address, as text, by the ending: `md`, `csv`.
        exported: the values of `path` for which the page is written by an export.
    """

    path: str
    template: str
    view: Callable[[Workspace, Asked], BaseModel]
    tab: Tab
    title: Callable[[BaseModel], str]
    exported: Callable[[Workspace], Iterable[Mapping[str, str]]] = field(default=_none)
    texts: Mapping[str, Callable[[BaseModel], str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Forward:
    """An address to which a form is sent, and which only leads on: `to` gives a path below the lab, and its query."""

    path: str
    to: Callable[[Asked], tuple[str, Mapping[str, str]]]


class Done(NamedTuple):
    """What an action did, in a line, and where to go on: a path below the lab, and its query."""

    line: str
    path: str
    query: Mapping[str, str] = {}


@dataclass(frozen=True)
class Action:
    """A change that a form asks for: `act` makes it in the lab, which is open for writing for that moment.

    `path` is its address below the lab. The values of the form and of the path are what it is given; what was ticked
    several times is one value, a line each.
    """

    path: str
    act: Callable[[Lab, Asked], Done]


@dataclass(frozen=True)
class SmallChange:
    """A change that a form asks for and that needs no lock: whoever writes to the lab does it, or this process.

    Attributes:
        path: its address below the lab; what it is given is as for an `Action`.
        request: what is asked for, in the lab as it is now.
        told: what was done, and where to go on; None where it is only noted by now.
    """

    path: str
    request: Callable[[Workspace, Asked], Request]
    told: Callable[[Workspace, Asked, Outcome | None], Done]
