"""The pages of adapters, and the two changes that can be made of what serves: each only after a name was typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from agentlab.lab import Lab
from agentlab.rounds.retiring import rollback
from agentlab.views.adapters import Adapter, adapter, adapters
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.page import Action, Done, Page, Tab
from agentlab.workspace.workspace import Workspace

TAB = Tab("Adapters", "adapters")


def _ids(lab: Workspace) -> Iterator[Mapping[str, str]]:
    return ({"id": record.id} for record in lab.adapters.list())


def _name(view: BaseModel) -> str:
    assert isinstance(view, Adapter)
    return view.known.record.id


def _typed(asked: Asked, name: str) -> None:
    """Raises BadAddress unless the name of what is to be changed was typed, all of it."""
    if asked.text("name") != name:
        raise BadAddress(f"Nothing was changed: type {name}, the whole name, to show that this one is meant.")


def promote(lab: Lab, asked: Asked) -> Done:
    """Let an adapter serve, as `agentlab adapters promote` does. Raises PromotionRefused without a passed gate, unless
    that is forced."""
    record = lab.adapters.get(asked.text("id"))
    _typed(asked, record.id)
    lab.adapters.promote(record.id, force=asked.text("force") == "yes")
    return Done(f"{record.id} serves now.", f"/adapters/{record.id}")


def roll_back(lab: Lab, asked: Asked) -> Done:
    """Let serve what served before, as `agentlab adapters rollback` does. What is typed is the name of what serves."""
    serving = lab.serving()
    if serving is not None:
        _typed(asked, serving)
    now, back = rollback(lab)
    line = f"{now} serves now." if now else "The base model serves now."
    return Done(f"{line} Reflections brought back: {len(back)}." if back else line, "/adapters")


ADAPTERS = Page(
    "/adapters", "adapters.html", lambda lab, asked: adapters(lab, asked.number("offset", 0)), TAB, lambda _: "Adapters"
)
ADAPTER = Page(
    "/adapters/{id}",
    "adapter.html",
    lambda lab, asked: adapter(lab, asked.text("id")),
    TAB,
    _name,
    _ids,
)
PROMOTE = Action("/adapters/{id}/promote", promote)
ROLL_BACK = Action("/adapters/rollback", roll_back)
