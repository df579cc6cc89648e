"""A model on a server plays as it does here, and whatever goes wrong there is an error of one kind."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from agentlab.engines.base import (
    Adapter,
    Adapting,
    Aside,
    Conversation,
    Conversing,
    Likelihood,
    Scorer,
    ScoreRequest,
    Tokenizing,
    TurnRequest,
    TurnWriter,
    Waiting,
    Writer,
    WriteRequest,
)
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm import VllmEngine, adapters
from agentlab.engines.vllm.client import COMPLETIONS, Client
from agentlab.errors import ContextExceeded, EngineFailed, ServerFailed, ServerUnavailable, Stopped
from agentlab.lab import Lab
from memory.prompts import Message, Prompting
from trainers.errors import BadAdapter, CanaryFailed

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]
Serve = Callable[..., VllmEngine]


@pytest.fixture
def adapter(open_at: Callable[..., Lab], add_skill: Callable[..., str], tmp_path: Path) -> Adapter:
    """An adapter of the tiny model, with a true canary."""
    with open_at(tmp_path / "lab") as lab:
        id = add_skill(lab)
        return Adapter(id, lab.adapters.folder_of(id, lab.fingerprint))


def played(engine: Any, turns: int = 2, prompting: Prompting | None = None) -> Conversation:
    """A conversation in which some turns were taken."""
    conversation = Model(engine).conversation("Find the coin.", "- Read the note first.", prompting)
    conversation.observe("You are in the attic. You see a note.", COMMANDS)
    for turn in range(turns):
        conversation.act(COMMANDS[turn])
        conversation.observe(f"The note says: the {'blue' if turn % 2 else 'red'} door is safe.", COMMANDS)
    return conversation


def test_it_can_whatever_a_local_engine_can(served: Serve) -> None:
    engine = served()
    ports = (Scorer, Writer, TurnWriter, Conversing, Tokenizing, Adapting, Likelihood, Waiting)
    assert [port for port in ports if not isinstance(engine, port)] == []


def test_scores_are_those_of_the_local_engine_and_a_list_of_requests_is_one_question(
    served: Serve, scripted: Any, behind: TransformersEngine, adapter: Adapter
) -> None:
    engine = served()
    asked = [ScoreRequest(played(engine, turns), COMMANDS[turns:]) for turns in (0, 2, 4)]
    here = [ScoreRequest(played(behind, turns), COMMANDS[turns:]) for turns in (0, 2, 4)]
    before = len(scripted.posted("/v1/completions"))
    found = engine.score(asked)
    assert len(scripted.posted("/v1/completions")) == before + 1
    for one, other in zip(found, behind.score(here), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    adapted = Model(engine, adapter).score(played(engine), COMMANDS).logprobs
    assert adapted == pytest.approx(Model(behind, adapter).score(played(behind), COMMANDS).logprobs, abs=1e-4)
    assert adapted != pytest.approx(Model(engine).score(played(engine), COMMANDS).logprobs, abs=0.1)


def test_the_best_of_very_many_is_searched_for_as_by_the_local_engine(
    served: Serve, scripted: Any, behind: TransformersEngine
) -> None:
    things = [f"{colour} {thing}" for colour in ("red", "blue", "old", "wet") for thing in ("key", "box", "map")]
    commands = [f"move {one} to {other}" for one in things for other in things]
    bonus = [200.0 * (at == 17) for at in range(len(commands))]
    engine, few = served(), [0.0] * len(COMMANDS)
    asked = [ScoreRequest(played(engine), commands, bonus=bonus), ScoreRequest(played(engine), COMMANDS, bonus=few)]
    here = [ScoreRequest(played(behind), commands, bonus=bonus), ScoreRequest(played(behind), COMMANDS, bonus=few)]
    best, all_of_few = engine.score(asked)
    for found, same in zip((best, all_of_few), behind.score(here), strict=True):
        assert found.logprobs == pytest.approx(same.logprobs, abs=1e-4) and found.usage == same.usage
    assert best.logprobs[17] > best.logprobs[0] == -math.inf < min(all_of_few.logprobs)


def test_commands_after_an_aside_have_the_scores_of_the_local_engine(served: Serve, behind: TransformersEngine) -> None:
    asides = [None, Aside("ask", "The red door.", COMMANDS), Aside("wait", "Nothing happens.", COMMANDS)]
    here, there = (Model(one).score(played(one), [COMMANDS[0]] * 3, asides).logprobs for one in (behind, served()))
    assert there == pytest.approx(here, abs=1e-4) and len(set(here)) == 3


def test_a_server_that_gives_few_log_probabilities_at_once_is_asked_more_often(
    served: Serve, scripted: Any, behind: TransformersEngine
) -> None:
    scripted.most = 20
    commands = [f"{letter}{other}" for letter in "abcdefghijklmnopqrstuvwxyz" for other in "x"]
    engine = served()
    found = Model(engine).score(played(engine), commands).logprobs
    assert found == pytest.approx(Model(behind).score(played(behind), commands).logprobs, abs=1e-4)


def test_turns_are_those_of_the_local_engine(served: Serve, behind: TransformersEngine) -> None:
    engine = served()
    objected = {"refused": "dance", "objection": "'dance' is not possible here."}
    for think, commands in ((0, COMMANDS), (6, COMMANDS), (0, None), (6, None)):
        prompting, asked = Prompting(thought=think > 0), {"think": think, "max_tokens": 8}
        there, here = (
            [
                TurnRequest(played(one, 1, prompting), commands, **asked),
                TurnRequest(played(one, 3, prompting), commands, **asked, **objected),
            ]
            for one in (engine, behind)
        )
        for one, other in zip(engine.write_turns(there), behind.write_turns(here), strict=True):
            assert (one.command, one.thought, one.token_ids) == (other.command, other.thought, other.token_ids)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert commands is None or one.command in commands


def test_what_it_takes_is_counted_as_that_of_the_local_engine(served: Serve, behind: TransformersEngine) -> None:
    def took(engine: Any, prompting: Prompting | None = None) -> list[int]:
        model, talk, counted = Model(engine), played(engine, 0, prompting), []
        for command in COMMANDS[:3]:
            if prompting is None:
                counted += [model.score(talk, COMMANDS).usage.input_tokens for _ in range(2)]
                talk.act(command)
            else:
                turn = model.write_turn(TurnRequest(talk, COMMANDS, think=4))
                counted += [turn.usage.input_tokens, turn.usage.output_tokens]
                talk.act(turn.command, turn.thought, turn.token_ids)
            talk.observe("The note says: the red door is safe.", COMMANDS)
        return counted

    ranked = took(behind)
    assert took(served()) == ranked and max(ranked[2:]) < ranked[0], "only what is new counts"
    assert took(served(), Prompting(thought=True)) == took(behind, Prompting(thought=True))


def test_drawn_commands_are_those_that_the_local_engine_draws(served: Serve, behind: TransformersEngine) -> None:
    def drawn(engine: Any) -> list[str]:
        asked = [TurnRequest(played(engine), COMMANDS, temperature=3.0, seed=seed) for seed in range(12)]
        return [turn.command for turn in engine.write_turns(asked)]

    found = drawn(served())
    assert found == drawn(behind) and len(set(found)) > 2


def test_what_it_writes_and_the_likelihood_of_a_text_are_those_of_the_local_engine(
    served: Serve, behind: TransformersEngine, adapter: Adapter
) -> None:
    engine, ids = served(), list(range(30, 60))
    for spans in ([(1, 5), (20, 30)], [(29, 30)], [(3, 9)]):
        assert engine.logprob(ids, spans) == pytest.approx(behind.logprob(ids, spans), abs=1e-3)
        assert engine.logprob(ids, spans, adapter) == pytest.approx(behind.logprob(ids, spans, adapter), abs=1e-3)
    asked = [WriteRequest(text, max_tokens=12) for text in ("Say yes.", "You see a door.")]
    assert [one.token_ids for one in engine.write(asked)] == [one.token_ids for one in behind.write(asked)]
    before = (Message("user", "Hello."), Message("assistant", "You are in the attic."))
    chat = [WriteRequest("Say yes.", max_tokens=6, before=before, whole=True)]
    (there,), (here,) = behind.write(chat), engine.write(chat)
    assert (there.token_ids, there.usage.input_tokens, there.cut) == (here.token_ids, here.usage.input_tokens, here.cut)
    with pytest.raises(ContextExceeded):
        engine.write([WriteRequest("word " * 3000, whole=True)])


def test_a_command_longer_than_the_context_is_refused_before_the_server_is_asked(served: Serve, scripted: Any) -> None:
    engine = served(context=256)
    before = len(scripted.asked)
    with pytest.raises(ContextExceeded):
        Model(engine).score(played(engine), ["go " * 300])
    with pytest.raises(ContextExceeded):
        Model(engine).write_turn(TurnRequest(played(engine), COMMANDS, think=300))
    assert len(scripted.asked) == before


def test_whatever_fails_on_the_server_is_a_failure_of_the_engine_and_the_same_question_is_answered_later(
    served: Serve, scripted: Any, adapter: Adapter
) -> None:
    engine: Any = served()
    model, talk = Model(engine, adapter), played(engine)
    meant, patience = model.score(talk, COMMANDS).logprobs, engine._places[None]._client._http.timeout
    asks = [
        lambda: model.score(talk, COMMANDS),
        lambda: model.write_turn(TurnRequest(talk, COMMANDS)),
        lambda: model.write("Say yes."),
        lambda: engine.logprob(talk.token_ids, [(5, 9)], adapter),
    ]
    for fault in ("500", "hangs", "half an answer", "dies", "nonsense", "no json"):
        scripted.fault = fault
        engine._places[None]._client._http.timeout = 0.3 if fault == "hangs" else patience
        for ask in asks[:1] if fault == "hangs" else asks:
            with pytest.raises(ServerFailed) as failure:
                ask()
            assert isinstance(failure.value, EngineFailed) and "\n" not in str(failure.value), fault
        scripted.fault, engine._places[None]._client._http.timeout = "", patience
        assert model.score(talk, COMMANDS).logprobs == pytest.approx(meant, abs=1e-6), fault


@pytest.mark.parametrize("busy", [True, False])
def test_a_server_that_answers_others_meanwhile_is_busy_and_one_that_answers_nobody_hangs(
    busy: bool, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def answer(_: Any, handler: Any, body: dict[str, Any]) -> None:
        if body["prompt"] == "long" and not asked.is_set():
            asked.set()
            scripted.awake.wait(10)
        handler.answer({"to": body["prompt"]})

    monkeypatch.setattr(type(scripted), "do_completions", answer)
    client = Client(scripted.url, seconds=1.5)
    with ThreadPoolExecutor(1) as threads:
        answered = threads.submit(client.post, COMPLETIONS, {"prompt": "long"})
        assert asked.wait(10)
        while not answered.done():
            if busy:
                client.post(COMPLETIONS, {"prompt": "short"})
            time.sleep(0.05)
    if busy:
        assert answered.result() == {"to": "long"}
    else:
        with pytest.raises(ServerFailed) as failure:
            answered.result()
        assert failure.value.hangs
    client.close()


def test_a_model_in_a_folder_is_known_by_the_whole_path_and_one_of_the_hub_by_its_name(
    served: Serve, scripted: Any, tiny_model: Path
) -> None:
    folder = str(tiny_model)
    for name, there in ((folder, folder), (folder, tiny_model.name), ("tiny", "org/tiny"), ("org/tiny", "tiny")):
        scripted.name = there
        assert Model(served(name=name)).score(played(served(name=name)), COMMANDS).logprobs, there
    for name, there in (
        (folder, f"/elsewhere/{tiny_model.name}"),
        ("org/tiny", "org/small"),
        ("org/tiny", "other/tiny"),
    ):
        scripted.name = there
        with pytest.raises(ServerUnavailable):
            served(name=name)


def test_what_a_server_gave_up_to_write_is_no_turn(served: Serve, scripted: Any) -> None:
    engine = served()
    scripted.fault = "gives up"
    for ask in (
        lambda: Model(engine).write("Say yes."),
        lambda: Model(engine).write_turn(TurnRequest(played(engine, 1, Prompting(thought=True)), COMMANDS, think=4)),
    ):
        with pytest.raises(ServerFailed, match="given up there"):
            ask()


def test_a_server_that_answers_with_the_base_in_an_adapters_name_is_found_out(
    served: Serve, scripted: Any, adapter: Adapter
) -> None:
    scripted.fault = "answers with the base"
    engine = served()
    with pytest.raises(CanaryFailed, match="the base model answers, so the adapter is off"):
        Model(engine, adapter)


def test_the_canary_sings_again_on_a_server_that_was_started_anew(
    served: Serve, scripted: Any, adapter: Adapter
) -> None:
    engine = served()
    model = Model(engine, adapter)
    talk = played(engine)
    meant = model.score(talk, COMMANDS).logprobs
    scripted.adapters.clear()
    assert model.score(talk, COMMANDS).logprobs == pytest.approx(meant, abs=1e-6)
    assert len(scripted.posted("/v1/load_lora_adapter")) == 2
    scripted.adapters.clear()
    scripted.fault = "answers with the base"
    with pytest.raises(CanaryFailed, match="the base model answers"):
        model.score(talk, COMMANDS)


def test_another_base_under_the_labs_name_is_found_out_by_the_canary(
    served: Serve, scripted: Any, adapter: Adapter, behind: TransformersEngine
) -> None:
    from agentlab.engines.adapted import _twin

    other = _twin(behind.weights())
    for weights in other.parameters():
        weights.data = weights.data.flip(0)
    scripted.base = other
    with pytest.raises(CanaryFailed, match="the server has another base model"):
        Model(served(), adapter)


def test_a_server_of_another_model_or_none_at_all_is_refused_before_anything_is_played(
    served: Serve, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerUnavailable, match="No vLLM server can be asked") as caught:
        served(server="http://127.0.0.1:9")
    assert "The vLLM server" not in str(caught.value)  # one sentence, not another within it
    with monkeypatch.context() as patch:
        patch.setattr(scripted, "name", "org/else")
        with pytest.raises(ServerUnavailable, match=r"serves org/else.*--served-model-name tiny-llama"):
            served()
    with monkeypatch.context() as patch:
        patch.setattr(scripted, "do_tokenize", lambda handler, body: handler.answer({"tokens": [1, 2]}))
        with pytest.raises(ServerUnavailable, match="another model under that name"):
            served()


def test_adapters_that_a_server_would_serve_wrongly_or_refuses_do_not_play(
    served: Serve, scripted: Any, adapter: Adapter
) -> None:
    engine = served()
    scripted.fault = "takes no adapters"
    with pytest.raises(BadAdapter, match="max_lora_rank 64"):
        engine.load(adapter)
    for own, remedy in ((True, "a rank of 64 at most: play it with `--engine transf"), (False, "needs --enable-lora")):
        with pytest.raises(BadAdapter, match=remedy):
            adapters.load(Client(scripted.url), adapter, own=own)
    scripted.fault = ""
    engine.load(adapter)
    file = adapter.folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 128)
    tensors["base_model.model.lm_head.lora_B.weight"] = torch.zeros(512, 4)
    save_file(tensors, file)
    before = len(scripted.asked)
    with pytest.raises(BadAdapter, match="lm_head, which vLLM serves wrongly"):
        served().load(adapter)
    assert not [path for path, _ in scripted.asked[before:] if "lora" in path]


def test_a_folder_that_changed_under_its_id_is_loaded_in_place(
    served: Serve, scripted: Any, adapter: Adapter, tmp_path: Path
) -> None:
    engine = served()
    engine.load(adapter)
    engine.load(adapter)
    moved = Path(shutil.copytree(adapter.folder, tmp_path / "moved"))
    engine.load(Adapter(adapter.id, moved))
    first, second = scripted.posted("/v1/load_lora_adapter")
    assert "load_inplace" not in first and second["load_inplace"] is True and second["lora_path"] == str(moved)


def test_what_is_written_is_drawn_by_the_model_alone_whatever_its_folder_recommends(
    scripted: Any, tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / scripted.name))
    told = {"eos_token_id": [0, 7], "repetition_penalty": 1.3, "top_k": 5, "top_p": 0.9, "temperature": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(told))
    engine = VllmEngine(folder, server=scripted.url, log=tmp_path / "log")
    before = len(scripted.posted("/v1/completions"))
    model = Model(engine)
    model.write("Say yes.", temperature=0.5, seed=3)
    model.write("Say yes.")
    model.write_turn(TurnRequest(played(engine), None, max_tokens=4))
    engine.close()
    for body in (posted := scripted.posted("/v1/completions")[before:]):
        assert {name: body[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")} == {
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        assert {0, 7} <= set(body["stop_token_ids"])
    assert [body["temperature"] for body in posted] == [0.5, 0.0, 0.0]
    assert [body.get("seed") for body in posted] == [3, None, None]


def test_a_server_that_is_named_can_be_asked_again_after_it_was_closed(served: Serve) -> None:
    engine = served()
    talk = played(engine)
    meant = Model(engine).score(talk, COMMANDS).logprobs
    engine.close()
    assert Model(engine).score(talk, COMMANDS).logprobs == meant


def test_whoever_waits_for_a_server_may_be_told_to_give_up(served: Serve, scripted: Any) -> None:
    engine = served()
    talk, caught = played(engine), list[BaseException]()
    scripted.fault = "hangs"

    def ask() -> None:
        try:
            Model(engine).score(talk, COMMANDS)
        except Stopped as error:
            caught.append(error)

    waiting, before = threading.Thread(target=ask), len(scripted.posted("/v1/completions"))
    waiting.start()
    while len(scripted.posted("/v1/completions")) == before:
        time.sleep(0.01)
    engine.give_up(Stopped("Enough."))
    waiting.join(10)
    assert [str(error) for error in caught] == ["Enough."]
    scripted.fault = ""
    assert Model(engine).score(talk, COMMANDS).logprobs


def test_a_turn_that_may_end_with_no_command_is_none(served: Serve) -> None:
    with pytest.raises(ValueError, match="no commands"):
        TurnRequest(played(served()), [])


def test_games_that_a_server_failed_are_errored_and_repaired_by_the_same_call(
    scripted: Any, tiny_model: Path, tmp_path: Path
) -> None:
    from agentlab.workspace.config import LabConfig

    config = LabConfig(
        model=str(tiny_model), engine="vllm", server=scripted.url, embedder="hashing", dtype="float32", context=512
    )
    with Lab.open(tmp_path / "lab", create=True, config=config, progress=False) as lab:
        asked = scripted.do_completions
        left = iter([None] * 4)

        def broken(handler: Any, body: dict[str, Any]) -> None:
            return handler.refuse(500, "EngineDeadError") if next(left, 1) is None else asked(handler, body)

        scripted.do_completions = broken
        how = {"seeds": [0, 1], "trials": 1, "arm": "base", "name": "r"}
        first = lab.run("toy/doors", **how)
        assert {trial.error_kind for result in first for trial in result.trials} >= {"engine"}
        scripted.do_completions = asked
        again = lab.run("toy/doors", **how)
    with Lab.open(
        tmp_path / "here", create=True, progress=False, config=config.model_copy(update={"engine": "transformers"})
    ) as lab:
        here = lab.run("toy/doors", **how)
    assert [[trial[1:4] for trial in map(_told, result.trials)] for result in again] == [
        [trial[1:4] for trial in map(_told, result.trials)] for result in here
    ]


def _told(trial: Any) -> tuple[Any, ...]:
    return trial.episode, trial.status, trial.score, trial.steps
