"""A server that has one model's weights at a time answers each question with those that it was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm import VllmEngine, weights
from agentlab.engines.vllm.client import Client
from agentlab.engines.vllm.link import Link
from agentlab.engines.vllm.weights import Weights
from agentlab.engines.waiting import Waiters
from agentlab.errors import ServerFailed, Stopped
from agentlab.lab import Lab
from trainers.errors import BadAdapter, CanaryFailed

COMMANDS = ["look", "open black door", "open blue door", "take coin"]
RELOADED = "/collective_rpc"


@pytest.fixture
def adapters(open_at: Callable[..., Lab], add_skill: Callable[..., str], tmp_path: Path) -> list[Adapter]:
    with open_at(tmp_path / "lab") as lab:
        ids = [add_skill(lab, seed=seed) for seed in (0, 1)]
        return [Adapter(id, lab.adapters.folder_of(id, lab.fingerprint)) for id in ids]


@pytest.fixture
def engine(
    served: Callable[..., VllmEngine], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> VllmEngine:
    """One that asks a server as it asks its own on a CPU."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def link(client: Client, base: str, logprobs: int, _: None) -> Link:
        return Link(client, base, logprobs, Weights(client, tiny_model, scratch, torch.float32, Waiters()))

    monkeypatch.setattr("agentlab.engines.vllm.engine.Link", link)
    made = served()
    held = made._ready().weights
    assert held is not None
    monkeypatch.setattr(held, "_waiters", made._waiters)
    return made


def scores(engine: Any, adapter: Adapter | None = None) -> list[float]:
    model = Model(engine, adapter)
    conversation = model.conversation("Find the coin.")
    conversation.observe("You see a door.", COMMANDS)
    return model.score(conversation, COMMANDS).logprobs


def test_the_base_and_adapters_in_turn_score_as_they_do_here(
    engine: VllmEngine, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    one, other = adapters
    for adapter in (None, one, other, None, one):
        assert scores(engine, adapter) == pytest.approx(scores(behind, adapter), abs=1e-4)
    assert scores(engine, one) != pytest.approx(scores(engine), abs=0.1)


def test_what_a_server_keeps_of_a_text_is_kept_for_each_model_by_itself(
    engine: VllmEngine, scripted: Any, adapters: list[Adapter]
) -> None:
    for adapter in (None, *adapters):
        scores(engine, adapter)
    salts = {body.get("cache_salt") for body in scripted.posted("/v1/completions")}
    assert len(salts) == 3
    assert all(salt is None or (len(salt) <= 128 and salt.isalnum()) for salt in salts)


def test_many_who_ask_different_models_at_once_are_each_answered_by_theirs_in_few_changes(
    engine: VllmEngine,
    behind: TransformersEngine,
    adapters: list[Adapter],
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "TURN", 0.3)
    models = [None, *adapters] * 2
    meant = [scores(behind, adapter) for adapter in models]
    [engine.load(adapter) for adapter in adapters]
    before = len(scripted.posted(RELOADED))
    with ThreadPoolExecutor(len(models)) as pool:
        found = list(pool.map(lambda adapter: [scores(engine, adapter) for _ in range(12)], models))
    for mine, all_of_mine in zip(meant, found, strict=True):
        assert all(one == pytest.approx(mine, abs=1e-4) for one in all_of_mine)
    assert len(scripted.posted(RELOADED)) - before < 12 * len(models) / 2


def test_after_a_change_that_failed_the_next_question_is_answered_by_whom_it_asks(
    engine: VllmEngine, behind: TransformersEngine, adapters: list[Adapter], scripted: Any
) -> None:
    adapter = adapters[0]
    engine.load(adapter)
    for asked, before in ((adapter, None), (None, adapter)):
        scores(engine, before)
        scripted.fault = "takes no weights"
        with pytest.raises(ServerFailed):
            scores(engine, asked)
        scripted.fault = ""
        for one in (asked, before):
            assert scores(engine, one) == pytest.approx(scores(behind, one), abs=1e-4)


def test_whoever_waits_for_another_models_turn_may_be_told_to_give_up(
    engine: VllmEngine, adapters: list[Adapter], scripted: Any
) -> None:
    held = engine._ready().weights
    assert held is not None
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            with held.of(adapters[0]):
                pass
        except Stopped as error:
            caught.append(error)

    with held.of(None):
        waiting = threading.Thread(target=ask)
        waiting.start()
        while not held._waiting:
            pass
        engine.give_up(Stopped("Enough."))
        waiting.join(10)
    assert [str(error) for error in caught] == ["Enough."] and len(scripted.posted(RELOADED)) == 1
    with held.of(adapters[0]):
        assert len(scripted.posted(RELOADED)) == 2


def test_weights_for_which_there_is_no_room_are_no_traceback_and_leave_nothing(
    engine: VllmEngine, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        Path(_[-1]).mkdir()
        raise OSError(28, "No space left on device")

    held = engine._ready().weights
    assert held is not None
    with monkeypatch.context() as patch:
        patch.setattr(weights, "write_merged", full)
        with pytest.raises(ServerFailed, match="No space left"), held.of(adapters[0]):
            pass
    assert list(held.scratch.iterdir()) == []
    with held.of(adapters[0]), held.of(adapters[0]):  # several at once
        assert len(list(held.scratch.iterdir())) == 1


def test_only_the_last_adapters_have_their_weights_on_the_disk(
    engine: VllmEngine, behind: TransformersEngine, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "KEPT", 1)
    for adapter in (*adapters, adapters[0]):
        assert scores(engine, adapter) == pytest.approx(scores(behind, adapter), abs=1e-4)
        link = engine._ready()
        assert link.weights is not None and len(list(link.weights.scratch.iterdir())) == 1


def test_an_adapter_that_cannot_be_laid_on_the_base_is_refused_and_the_base_plays_on(
    engine: VllmEngine, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    (adapters[0].folder / "adapter_model.safetensors").write_bytes(b"none")
    with pytest.raises((BadAdapter, CanaryFailed)):
        scores(engine, adapters[0])
    assert scores(engine) == pytest.approx(scores(behind), abs=1e-4)
