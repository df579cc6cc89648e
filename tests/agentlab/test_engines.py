from __future__ import annotations

import math
from pathlib import Path

import pytest

from agentlab.engines.base import Conversation, Engine
from agentlab.engines.random import RandomEngine
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import AgentLabError
from memory.prompts import rendering
from memory.records import Episode, Step


def test_a_conversation_reads_as_the_rendering_of_its_episode() -> None:
    conversation = Conversation("Win.", "- Be quick.")
    conversation.observe("A room.")
    conversation.act("look")
    conversation.observe("Still a room.")
    steps = [Step(index=0, observation="A room.", state="", admissible=[], action="look", result="", next_state="")]
    episode = Episode(id="e", run="r", env="x", split="train", seed=0, goal="Win.", hints="- Be quick.", steps=steps)
    rendered = "".join(segment.text for segment in rendering.segments(episode))
    assert conversation.text == rendered + rendering.turn("Still a room.")
    assert conversation.turns == 2
    conversation.close()
    assert conversation.text.startswith("Task: Win.\nHints:\n- Be quick.")


@pytest.mark.parametrize("engine", [RandomEngine(), ScriptedEngine({})])
def test_what_ships_is_an_engine(engine: object) -> None:
    assert isinstance(engine, Engine)


def test_the_random_engine_finds_every_command_equally_likely() -> None:
    engine = RandomEngine()
    scores = engine.score(engine.conversation("Win."), ["a", "b", "c", "d"])
    assert scores == [-math.log(4)] * 4
    assert engine.generate("Say something.") == ""


def test_the_random_engine_takes_no_adapter() -> None:
    with pytest.raises(AgentLabError, match=r"no weights.*leave --adapter out"):
        RandomEngine().with_adapter("ad-1", Path("adapters"))


def test_a_script_is_a_table_of_preferences_with_a_floor() -> None:
    engine = ScriptedEngine({"look": -1.0}, floor=-7.0)
    assert engine.score(engine.conversation("Win."), ["look", "jump"]) == [-1.0, -7.0]


def test_a_script_may_read_the_transcript() -> None:
    engine = ScriptedEngine(lambda text, command: float(text.count(command)))
    conversation = engine.conversation("Say yes, yes.")
    conversation.observe("Well?")
    assert engine.score(conversation, ["yes", "no"]) == [2.0, 0.0]


def test_an_adapter_may_have_preferences_of_its_own() -> None:
    engine = ScriptedEngine({"a": 0.0}, preferences_by_adapter={"ad-1": {"b": 0.0}})
    conversation = engine.conversation("Win.")
    one, two = (engine.with_adapter(name, Path(name)) for name in ("ad-1", "ad-2"))
    for _ in range(2):  # whoever is asked in turn, each answers for itself
        assert engine.score(conversation, ["a", "b"]) == [0.0, -10.0]
        assert one.score(conversation, ["a", "b"]) == [-10.0, 0.0]
        assert two.score(conversation, ["a", "b"]) == [0.0, -10.0]
    assert (engine.adapter, one.adapter, two.adapter) == (None, "ad-1", "ad-2")


def test_a_script_answers_in_order_and_repeats_the_last() -> None:
    engine = ScriptedEngine({}, answers=["one", "two"])
    assert [engine.generate(prompt) for prompt in ("a", "b", "c")] == ["one", "two", "two"]
    assert engine.prompts == ["a", "b", "c"]
    assert ScriptedEngine({}).generate("a") == ""
