"""The real vLLM, where AGENTLAB_VLLM_PYTHON names a Python that has it: it plays as the local engine does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter, TurnRequest
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine
from agentlab.engines.vllm import PYTHON, VllmEngine
from agentlab.testing import check_engine
from memory.prompts import Prompting

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python that has vLLM"),
]
COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin"]


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    made = VllmEngine(tiny_model, dtype="float32", log=tmp_path_factory.mktemp("vllm") / "vllm.log")
    yield made
    made.close()


def talk(engine: Any, prompting: Prompting | None = None) -> Any:
    conversation = Model(engine).conversation("Find the coin.", "- Read the note first.", prompting)
    conversation.observe("You are in the attic. You see a note.", COMMANDS)
    conversation.act("read note")
    conversation.observe("The note says: the blue door is safe.", COMMANDS)
    return conversation


def test_it_conforms(engine: VllmEngine, adapters: list[Adapter]) -> None:
    report = check_engine(engine, adapter=adapters[0])
    assert report.ok, str(report)


def test_the_base_and_adapters_score_and_write_as_they_do_here(
    engine: VllmEngine, behind: TransformersEngine, adapters: list[Adapter]
) -> None:
    for adapter in (None, *adapters):
        there, here = Model(engine, adapter), Model(behind, adapter)
        meant = here.score(talk(behind), COMMANDS).logprobs
        assert there.score(talk(engine), COMMANDS).logprobs == pytest.approx(meant, abs=1e-3)
        for think, commands in ((0, COMMANDS), (6, COMMANDS), (6, None)):
            prompting = Prompting(thought=think > 0)
            turns = [
                model.write_turn(TurnRequest(talk(model.engine, prompting), commands, think=think, max_tokens=8))
                for model in (there, here)
            ]
            assert turns[0].token_ids == turns[1].token_ids
            assert turns[0].logprobs == pytest.approx(turns[1].logprobs, abs=1e-3)


def test_a_server_that_was_killed_is_started_again_with_its_adapters(engine: Any, adapters: list[Adapter]) -> None:
    model = Model(engine, adapters[0])
    meant = model.score(talk(engine), COMMANDS).logprobs
    own = engine._places[adapters[0]].own
    own._process.kill()  # its supervisor, with which it ends
    own._process.wait()
    assert model.score(talk(engine), COMMANDS).logprobs == pytest.approx(meant, abs=1e-3)
