"""Commands are scored as if something had been done and answered first, at the price of one pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentlab.engines.base import Aside, Conversation, ScoreRequest
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from memory.prompts import Prompting

ASIDES = [None, Aside("ask", "Go north.", ["go north", "look"]), Aside("ask twice", "Go north.", ["look"])]


def begun(engine: object, prompting: Prompting) -> Conversation:
    conversation = Model(engine).conversation("Find the coin.", "- Be quick.", prompting)  # type: ignore[arg-type]
    conversation.observe("You are in the attic.", ["go north", "look"])
    conversation.act("look")
    conversation.observe("You see nothing.", ["go north", "ask"])
    return conversation


@pytest.mark.parametrize("prompting", [Prompting(), Prompting(thought=True), Prompting(chat=True, thought=True)])
def test_a_command_after_an_aside_scores_as_where_that_was_done(tiny_chat_model: Path, prompting: Prompting) -> None:
    engine = TransformersEngine(tiny_chat_model, dtype="float32")
    conversation = begun(engine, prompting)
    before = list(conversation.token_ids)
    found = Model(engine).score(conversation, ["go north"] * 3, ASIDES)
    assert conversation.token_ids == before
    for aside, score in zip(ASIDES, found.logprobs, strict=True):
        real = begun(engine, prompting)
        if aside is not None:
            real.act(aside.command)
            real.observe(aside.answer, aside.commands)
        silent = len(real.said("go north")) - len(real.command_tokens("go north"))  # type: ignore[attr-defined]
        start = len(real.token_ids)
        real.act("go north")
        span = (start + silent, len(real.token_ids))
        assert score == pytest.approx(engine.logprob(real.token_ids, [span]), abs=1e-4)


def test_an_engine_of_text_reads_them_too() -> None:
    engine = ScriptedEngine(lambda text, command: -float(len(text)))
    conversation = begun(engine, Prompting())
    plain, asked, twice = Model(engine).score(conversation, ["go north"] * 3, ASIDES).logprobs
    assert plain == -len(conversation.text) > asked > twice


def test_as_many_asides_as_commands_are_given_or_none() -> None:
    with pytest.raises(ValueError):
        ScoreRequest(Conversation("Win."), ["look", "go"], asides=[None])
