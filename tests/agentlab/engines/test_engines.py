from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agentlab.engines.base import Adapter, Conversation, ScoreRequest, Scores, WriteRequest, Writing
from agentlab.engines.model import Model
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


class OnlyScores:
    """An engine that ranks and can do nothing else."""

    name = "only scores"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [Scores([0.0] * len(request.commands)) for request in requests]


class OnlyWrites:
    """An engine that writes and can do nothing else."""

    name = "only writes"

    def write(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        return [Writing(request.prompt.upper()) for request in requests]


def test_an_engine_that_only_ranks_or_only_writes_is_one_and_says_what_it_cannot() -> None:
    ranks, writes = Model(OnlyScores()), Model(OnlyWrites())
    assert (ranks.writes, writes.writes) == (False, True)
    assert ranks.score(ranks.conversation("Win."), ["a", "b"]).logprobs == [0.0, 0.0]
    assert writes.write("a word").text == "A WORD"
    with pytest.raises(AgentLabError, match="only scores"):
        ranks.write("a word")
    with pytest.raises(AgentLabError, match="only writes"):
        writes.score(writes.conversation("Win."), ["a"])


def test_an_engine_without_weights_to_adapt_takes_no_adapter() -> None:
    with pytest.raises(AgentLabError, match="ad-1"):
        Model(OnlyScores(), Adapter("ad-1", Path("adapters")))


@pytest.mark.parametrize("answer", [[[0.0]], [[0.0, float("nan")]], []])
def test_an_engine_that_leaves_a_command_without_a_number_is_found_out(answer: list[list[float]]) -> None:
    class Sloppy(OnlyScores):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
            return [Scores(scores) for scores in answer]

    model = Model(Sloppy())
    with pytest.raises(ValueError, match=r"for 2 commands|0 answers to 1 requests"):
        model.score(model.conversation("Win."), ["a", "b"])


def test_a_script_is_a_table_of_preferences_with_a_floor() -> None:
    engine = ScriptedEngine({"look": -1.0}, floor=-7.0)
    assert Model(engine).score(Conversation("Win."), ["look", "jump"]).logprobs == [-1.0, -7.0]


def test_a_script_may_read_the_transcript() -> None:
    engine = ScriptedEngine(lambda text, command: float(text.count(command)))
    conversation = Conversation("Say yes, yes.")
    conversation.observe("Well?")
    assert Model(engine).score(conversation, ["yes", "no"]).logprobs == [2.0, 0.0]


def test_an_adapter_may_have_preferences_of_its_own() -> None:
    engine = ScriptedEngine({"a": 0.0}, preferences_by_adapter={"ad-1": {"b": 0.0}})
    conversation = Conversation("Win.")
    one, two = (Model(engine, Adapter(name, Path(name))) for name in ("ad-1", "ad-2"))
    for _ in range(2):  # whoever is asked in turn, each answers for itself
        assert Model(engine).score(conversation, ["a", "b"]).logprobs == [0.0, -10.0]
        assert one.score(conversation, ["a", "b"]).logprobs == [-10.0, 0.0]
        assert two.score(conversation, ["a", "b"]).logprobs == [0.0, -10.0]
    assert (one.adapter_id, two.adapter_id) == ("ad-1", "ad-2")


def test_a_script_answers_in_order_and_repeats_the_last() -> None:
    engine = ScriptedEngine({}, answers=["one", "two"])
    assert [Model(engine).write(prompt).text for prompt in ("a", "b", "c")] == ["one", "two", "two"]
    assert engine.prompts == ["a", "b", "c"]
    assert Model(ScriptedEngine({})).write("a").text == ""
