"""The application: every page of every lab at its address, its JSON beside it, and the changes that forms ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from agentlab.errors import AgentLabError, LabClosed, LabLocked, UnknownEvaluation, UnknownRound
from agentlab.lab import Lab
from agentlab.terminal import one_line
from agentlab.web.asked import Asked, BadAddress
from agentlab.web.looking import Looking
from agentlab.web.page import Action, Done, Forward, Page, SmallChange, Tab
from agentlab.web.pages import ACTIONS, FORWARDS, PAGES, TABS
from agentlab.web.pages.comparisons import compared
from agentlab.web.pages.labs import labs
from agentlab.web.rendering import HERE, link_below, render
from agentlab.web.safety import Access, Guard
from agentlab.workspace.asking import Noted, ask
from agentlab.workspace.requests import SCREEN
from environments.errors import EnvironmentsError
from memory.errors import DatabaseBusy, DatabaseClosed, MemoryStoreError, UnknownEpisode, UnknownReflection
from trainers.errors import TrainersError, UnknownAdapter

FAILURES = (AgentLabError, MemoryStoreError, TrainersError, EnvironmentsError)
"""What is told in a line on a page of its own."""

MISSING = (UnknownEpisode, UnknownReflection, UnknownAdapter, UnknownEvaluation, UnknownRound)
BUSY = (DatabaseBusy, DatabaseClosed, LabClosed, LabLocked)

JSON = "json"

FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 100_000
"""Bytes of a form."""

SHOWN_LINE = 4000
"""Characters of what an action did, as the next page shows it."""


def _letters(keys: Sequence[str]) -> dict[str, str]:
    """The letter that leads to each page of the navigation, behind `g`: the first of its name that is free."""
    found: dict[str, str] = {}
    for key in keys:
        found[key] = next((letter for letter in key if letter not in found.values()), "")
    return found


LETTERS = _letters([tab.key for tab, _ in TABS])


class OldForm(BadAddress):
    """A form does not come from one of these pages, or from one of an earlier start."""


class Application:
    """The labs on the screens, who may see them, and how their pages are made."""

    def __init__(self, found: Sequence[Looking], access: Access) -> None:
        self.labs = list(found)
        self.access = access

    def asgi(self) -> ASGIApp:
        """The application for a server."""
        routes: list[Any] = [Mount("/static", StaticFiles(directory=HERE / "static"), name="static")]
        several = len(self.labs) > 1 or self.labs[0].name != ""
        if several:
            routes += [Route("/", self._labs), Route("/index.json", self._labs_json)]
            routes += [Route("/compare", self._compare()), Route("/compare.json", self._compare(as_json=True))]
        for lab in self.labs:
            below = [Route(forward.path, self._forward(lab, forward)) for forward in FORWARDS]
            below += [route for page in PAGES for route in self._routes(lab, page)]
            below += [Route(action.path, self._action(lab, action), methods=["POST"]) for action in ACTIONS]
            routes.append(Mount(f"/labs/{lab.name}" if several else "", routes=below))
        handlers: Any = {404: self._not_found, Exception: self._broken}
        # Around all of it: what Starlette answers by itself has the headers of safety too.
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self.access)

    # -- pages -----------------------------------------------------------------------------------------------------

    def _routes(self, lab: Looking, page: Page) -> list[Route]:
        twin = "/index.json" if page.path == "/" else f"{page.path}.json"
        # The twin first: a path that takes anything would take its ending for a part of the name.
        texts = [Route(f"{page.path}.{ending}", self._page(lab, page, ending)) for ending in page.texts]
        return [Route(twin, self._page(lab, page, JSON)), *texts, Route(page.path, self._page(lab, page))]

    def _page(self, lab: Looking, page: Page, ending: str = "") -> Callable[[Request], Any]:
        """A page; with an ending what it shows as data, or as text."""

        async def answer(request: Request) -> Response:
            asked, path = _asked(request), quote(request.scope["path"])
            try:
                return await run_in_threadpool(self._answer, lab, page, asked, path, ending)
            except FAILURES as failure:
                if isinstance(failure, MISSING) and ending and page.path.endswith(":path}"):
                    with suppress(*MISSING):  # what is called so itself has its page here
                        return await run_in_threadpool(self._answer, lab, page, asked.extended(f".{ending}"), path, "")
                return self._failed(lab, failure, as_json=ending == JSON)

        return answer

    def _answer(self, lab: Looking, page: Page, asked: Asked, path: str, ending: str) -> Response:
        view = _looked(lab, page, asked)
        if ending == JSON:
            return Response(view.model_dump_json(indent=2), media_type="application/json")
        if ending:
            return PlainTextResponse(page.texts[ending](view))
        return HTMLResponse(self.html(lab, page, asked, view, path))

    def _forward(self, lab: Looking, forward: Forward) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                path, query = forward.to(_asked(request))
            except FAILURES as failure:
                return self._failed(lab, failure)
            return RedirectResponse(link_below(self.root(lab))(path, **query), status_code=303)

        return answer

    def root(self, lab: Looking) -> str:
        """What stands before the addresses of a lab."""
        return f"/labs/{lab.name}" if lab.name else ""

    def html(self, lab: Looking, page: Page, asked: Asked, view: BaseModel, address: str = "", **more: Any) -> str:
        """A page as HTML. `address` is its path as it stands in a link; `more` replaces what all pages are given."""
        values = self.common(lab) | {
            "view": view,
            "asked": asked,
            "tab": page.tab.key,
            "title": page.title(view),
            "here": address,
            "below": address.removeprefix(quote(self.root(lab))),
            "twin": (f"{address}index.json" if address.endswith("/") else f"{address}.json") + _kept(asked),
            "done": asked.text("done", longest=SHOWN_LINE),
        }
        return render(page.template, values | more)

    def common(self, lab: Looking | None) -> dict[str, Any]:
        """What every page is given; `lab` is None for one that belongs to none."""
        root = self.root(lab) if lab is not None else ""
        return {
            "link": link_below(root),
            "static": link_below("/static"),
            "top": "/",
            "lab_link": lambda name: link_below("")(f"/labs/{name}/"),
            "lab": lab.name or lab.folder.name if lab is not None else "",
            "folder": str(lab.folder) if lab is not None else "",
            "several": [one.name for one in self.labs if one.name],
            "tabs": _tabs(lab) if lab is not None else [],
            "letters": LETTERS,
            "tab": "",
            "token": self.access.token,
            "writable": lab is not None,
            "live": True,
            "done": "",
            "here": "",
            "twin": "",
            "typed": [],
        }

    # -- changes ---------------------------------------------------------------------------------------------------

    def _action(self, lab: Looking, action: Action | SmallChange) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            fields: list[tuple[str, str]] = []
            try:
                fields = await _form(request)
                if not self.access.same(next((value for name, value in fields if name == "token"), "")):
                    raise OldForm("The form has no token, or an old one: load its page again.")
                done = await run_in_threadpool(_acted, lab, action, _sent(request, fields))
            except FAILURES as failure:
                # What was typed is not lost. One that may be no form of these pages is not sent again from here.
                again = "" if isinstance(failure, OldForm) else quote(request.scope["path"])
                return self._failed(lab, failure, fields=fields, again=again)
            told = one_line(done.line, SHOWN_LINE)
            path = "/" + done.path.lstrip("/\\")  # two slashes would name another host
            address = link_below(self.root(lab))(path, **{**done.query, "done": told})
            return RedirectResponse(address, status_code=303)

        return answer

    # -- what goes wrong -------------------------------------------------------------------------------------------

    def _failed(
        self,
        lab: Looking | None,
        failure: Exception,
        *,
        as_json: bool = False,
        fields: Sequence[tuple[str, str]] = (),
        again: str = "",
    ) -> Response:
        """A line that says what went wrong; with the `fields` of a form, and where to send them `again`."""
        status = 404 if isinstance(failure, MISSING) else 503 if isinstance(failure, BUSY) else 400
        if as_json:
            return JSONResponse({"error": str(failure)}, status_code=status)
        # What confirms a deletion is typed anew.
        typed = [(name, "" if name == "name" else value) for name, value in fields if name != "token"]
        values = self.common(lab) | {"line": str(failure), "title": "Not possible", "typed": typed, "again": again}
        return HTMLResponse(render("failed.html", values), status_code=status)

    def _broken(self, request: Request, failure: Exception) -> Response:
        """What nobody expected: a line for the reader; the server prints where it was."""
        line = f"This page could not be made ({type(failure).__name__}); the terminal of `agentlab view` says where."
        if request.url.path.endswith(".json"):
            return JSONResponse({"error": line}, status_code=500)
        values = self.common(None) | {"line": line, "title": "An error"}
        return HTMLResponse(render("failed.html", values), status_code=500)

    def _not_found(self, request: Request, _: Exception) -> Response:
        values = self.common(None) | {"line": f"There is no page at {request.url.path}.", "title": "No such page"}
        return HTMLResponse(render("failed.html", values), status_code=404)

    # -- several labs ----------------------------------------------------------------------------------------------

    async def _labs(self, request: Request) -> Response:
        view = await run_in_threadpool(labs, self.labs)
        return HTMLResponse(render("labs.html", self.common(None) | {"view": view, "title": "Labs"}))

    def _compare(self, *, as_json: bool = False) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            asked = _asked(request)
            try:
                view = await run_in_threadpool(compared, self.labs, asked)
            except FAILURES as failure:
                return self._failed(None, failure, as_json=as_json)
            if as_json:
                return Response(view.model_dump_json(indent=2), media_type="application/json")
            here = {"here": "/compare", "twin": f"/compare.json{_kept(asked)}"}
            values = self.common(None) | {"view": view, "asked": asked, "title": "Labs beside each other", **here}
            return HTMLResponse(await run_in_threadpool(render, "compare.html", values))

        return answer

    async def _labs_json(self, request: Request) -> Response:
        view = await run_in_threadpool(labs, self.labs)
        return Response(view.model_dump_json(indent=2), media_type="application/json")


def _asked(request: Request) -> Asked:
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():  # what was ticked several times is one value, a line each
        values[name] = f"{values[name]}\n{value}" if name in values else value
    return Asked({**values, **request.path_params}, frozenset(request.path_params))


async def _form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form, in their order. Raises BadAddress if it is none, or too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise BadAddress(f"A form is sent as {FORM}.")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= LARGEST_FORM):
        raise BadAddress(f"A form has at most {LARGEST_FORM:,} bytes, and says how many.")
    return [(name, str(value)) for name, value in (await request.form()).multi_items()]


def _sent(request: Request, fields: Sequence[tuple[str, str]]) -> Asked:
    """What a form and its address ask for; what was ticked several times is one value, an id a line."""
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    values.pop("token", None)  # it would stand in addresses that are made from what was asked
    return Asked({**{name: "\n".join(given) for name, given in values.items()}, **request.path_params})


def _kept(asked: Asked) -> str:
    """The query of what is shown, without the line of what was done before."""
    return asked.query(done=None, undo=None)


def _tabs(lab: Looking) -> list[tuple[Tab, str]]:
    """The navigation of a lab; all of it where the lab cannot be read."""
    try:
        return [(tab, path) for tab, path in TABS if tab.shown(lab.workspace)]
    except FAILURES:
        return list(TABS)


def _looked(lab: Looking, page: Page, asked: Asked) -> BaseModel:
    """What a page shows; once more where another lab has taken the place of the one that was being read."""
    try:
        return page.view(lab.workspace, asked)
    except (DatabaseClosed, LabClosed):
        return page.view(lab.workspace, asked)


def _acted(lab: Looking, action: Action | SmallChange, asked: Asked) -> Done:
    """Do it with the writer's lock, which is given back at once; what is small, also where another process has it."""
    if isinstance(action, SmallChange):
        outcome = ask(lab.folder, action.request(lab.workspace, asked), SCREEN)
        if isinstance(outcome, Noted):
            return action.told(lab.workspace, asked, None)._replace(line=outcome.line)
        return action.told(lab.workspace, asked, outcome)
    with Lab.open(lab.folder, progress=False) as writing:
        return action.act(writing, asked)


def application(folder: Path, access: Access | None = None) -> Application:
    """The screens of the lab in a folder, or of all labs in it. Raises NotALab if there is none."""
    from agentlab.web.looking import labs_in

    return Application(labs_in(folder), access or Access())
