from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode

import pytest
from starlette.testclient import TestClient

from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.web.app import Application, application
from agentlab.web.safety import Access
from agentlab.workspace.config import LabConfig

ADDRESS = "http://127.0.0.1"


class Answer(NamedTuple):
    """What came back, without a client that would tidy an address before it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def ask() -> Callable[..., Answer]:
    """Sends a request exactly as it is written: path, headers and body."""

    def asked(app: Any, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        raw, _, query = path.partition("?")
        given = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent: list[dict[str, Any]] = []

        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not parts:
                await asyncio.Event().wait()  # it never hangs up
            return parts.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def run() -> None:
            try:
                await app(scope, receive, send)
            except Exception:  # what Starlette raises again behind an answer, for the server's log
                if not sent:
                    raise

        asyncio.run(run())
        first, *rest = sent
        found = {name.decode(): value.decode("latin-1") for name, value in first["headers"]}
        return Answer(first["status"], found, b"".join(part.get("body", b"") for part in rest))

    return asked


def config(**values: Any) -> LabConfig:
    return LabConfig(embedder="hashing", threads=1, **values)


def at_random(transcript: str, command: str) -> float:
    """A player of the toy game that opens a door at random, so that games are won and lost."""
    return 0.0


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which some games of the toy were played, and something was learned. It is only looked at."""
    folder = tmp_path_factory.mktemp("looked-at") / "lab"
    with Lab.open(folder, create=True, config=config(), engine=ScriptedEngine(at_random), progress=False) as lab:
        lab.run("toy/doors", seeds=range(4), trials=2, arm="random", name="first")
        lab.run("toy/doors", seeds=range(4), trials=2, arm="base + memory", name="second")
    return folder


@pytest.fixture
def show() -> Iterator[Callable[..., Any]]:
    """The screens of a folder, as an ASGI application whose token is `secret`."""
    made: list[Application] = []

    def shown(folder: Path, **access: Any) -> Any:
        made.append(application(folder, Access(**{"token": "secret", **access})))
        return made[-1].asgi()

    yield shown
    for one in made:
        for lab in one.labs:
            lab.close()


@pytest.fixture
def browse(show: Callable[..., Any]) -> Callable[..., TestClient]:
    """A client of the screens of a folder."""

    def client(folder: Path, **access: Any) -> TestClient:
        return TestClient(show(folder, **access), base_url=ADDRESS, follow_redirects=False)

    return client


@pytest.fixture
def post(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    """Sends a form as a browser does; `token` is the right one unless it is said otherwise."""

    def posted(app: Any, path: str, fields: dict[str, str], **headers: str) -> Answer:
        body = urlencode({"token": "secret", **fields}).encode()
        usual = {"content_type": "application/x-www-form-urlencoded", "content_length": str(len(body))}
        return ask(app, path, "POST", body, **{**usual, **headers})

    return posted
