"""A lab whose model says what a test has it say, and somebody who asks it over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agentlab.engines.base import WriteRequest, Writing
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.serving.app import Service
from agentlab.serving.chats import Chats
from agentlab.serving.clients import Clients
from agentlab.workspace.config import LabConfig
from memory.records import Usage


class Talker(ScriptedEngine):
    """Says the words of `says` one after the other, as far as whoever listens lets it; an error is raised."""

    def __init__(self) -> None:
        super().__init__({})
        self.says: str | Exception = "Hello there, friend."
        self.heard: list[WriteRequest] = []
        self.on_write: Callable[[], None] = lambda: None

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        return [self._said(request) for request in requests]

    def _said(self, request: WriteRequest) -> Writing:
        self.heard.append(request)
        self.on_write()
        if isinstance(self.says, Exception):
            raise self.says
        words, text = self.says.split(" "), ""
        for number, word in enumerate(words[: request.max_tokens], 1):
            text = f"{text} {word}".strip()
            if request.listener is not None and not request.listener(text):
                return Writing(text, usage=Usage(input_tokens=7, output_tokens=number))
        cut = len(words) > request.max_tokens
        return Writing(text, usage=Usage(input_tokens=7, output_tokens=min(len(words), request.max_tokens)), cut=cut)


@pytest.fixture
def engine() -> Talker:
    return Talker()


@pytest.fixture
def folder(tmp_path: Path, engine: Talker) -> Path:
    config = LabConfig(embedder="hashing", threads=1)
    with Lab.open(tmp_path / "lab", create=True, config=config, engine=engine, progress=False) as lab:
        _ = lab.database
    return tmp_path / "lab"


@pytest.fixture
def lab(folder: Path, engine: Talker) -> Iterator[Lab]:
    with Lab.open(folder, write=False, engine=engine, progress=False) as opened:
        yield opened


@pytest.fixture
def said() -> list[str]:
    """What the person at the terminal is told."""
    return []


@pytest.fixture
def service(lab: Lab, said: list[str]) -> Iterator[Service]:
    made = Service(Chats(lab, most=50), Clients(lab.folder, ""), "127.0.0.1", said.append)
    yield made
    made.end()


@pytest.fixture
def person(service: Service) -> TestClient:
    return TestClient(service.asgi(), base_url="http://127.0.0.1", raise_server_exceptions=False)
