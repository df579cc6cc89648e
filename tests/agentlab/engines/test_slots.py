"""The memory of the conversations' keys and values: what interrupts its growth leaves every score right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from agentlab.engines.base import ScoreRequest
from agentlab.engines.cached import CachedConversation
from agentlab.engines.slots import STEP
from agentlab.engines.transformers import TransformersEngine

COMMANDS = ["look", "open black door", "read note"]
LONG = "You are in the attic. You see a note, a door. " * 40


@pytest.fixture
def engine(tiny_model: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model, dtype="float32", device="cpu")


def begun(engine: TransformersEngine, observation: str) -> CachedConversation:
    conversation = engine.conversation("Find the coin.")
    conversation.observe(observation)
    return conversation


def scores(engine: TransformersEngine, asked: Sequence[CachedConversation]) -> list[float]:
    requests = [ScoreRequest(talk, COMMANDS) for talk in asked]
    return [score for one in engine.score(requests) for score in one.logprobs]


def plain(engine: TransformersEngine, asked: Sequence[CachedConversation]) -> list[float]:
    """The same by passes without a cache."""
    found = []
    for talk in asked:
        for command in COMMANDS:
            ids = [*talk.token_ids, *engine.command_tokens(command)]
            found.append(engine.logprob(ids, [(len(talk.token_ids), len(ids))]))
    return found


@pytest.mark.parametrize("longer", [False, True])
def test_where_memory_runs_out_as_slots_grow_scores_afterwards_are_right(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, longer: bool
) -> None:
    first, second = begun(engine, "A cellar."), begun(engine, "A note.")
    scores(engine, [first])
    if longer:  # and not more of them
        scores(engine, [second])
        first.act("look")
        first.observe(LONG)
        assert len(first.token_ids) > STEP
    calls, new_zeros = [], torch.Tensor.new_zeros

    def full(part: torch.Tensor, *sizes: Any, **options: Any) -> torch.Tensor:
        calls.append(sizes)
        if len(calls) == 3:  # the first layer has grown: keys and values
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return new_zeros(part, *sizes, **options)

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch.Tensor, "new_zeros", full)
        scores(engine, [first if longer else second])
    for talk in (first, second):
        talk.act("look")
        talk.observe("It is dark.")
    for asked in ([second], [first], [first, second], [second]):
        assert scores(engine, asked) == pytest.approx(plain(engine, asked), abs=1e-4)
