"""The span of a model call: who was asked, for what, and what it took."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentlab.engines.base import Adapter, Conversation, ScoreRequest, Scores, TurnRequest, WriteRequest
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.spans import named
from memory.records import Usage


class Counting(ScriptedEngine):
    """Takes three tokens a command."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        took = [Usage(input_tokens=3 * len(request.commands)) for request in requests]
        return [Scores(one.logprobs, usage) for one, usage in zip(super().score(requests), took, strict=True)]


@pytest.mark.parametrize(
    ("model", "adapter", "provider", "name"),
    [
        ("SmolLM2-135M-Instruct", None, "agentlab", "SmolLM2-135M-Instruct"),
        ("SmolLM2-135M-Instruct", "adapter-1", "agentlab", "SmolLM2-135M-Instruct+adapter-1"),
        ("openai:gpt-x", None, "openai", "gpt-x"),
        ("google_genai:gemini-x", None, "gcp.gemini", "gemini-x"),
    ],
)
def test_a_model_has_the_name_by_which_others_know_it(
    model: str, adapter: str | None, provider: str, name: str
) -> None:
    said = named(model, adapter)
    assert (said["gen_ai.provider.name"], said["gen_ai.request.model"]) == (provider, name)
    assert said.get("adapter") == adapter


def test_requests_that_are_answered_together_are_one_call_with_all_that_it_took(traced: Any) -> None:
    model = Model(Counting({"look": 0.0}))
    model.score_all([ScoreRequest(Conversation("g"), ["look"]), ScoreRequest(Conversation("g"), ["look", "wait"])])
    (call,) = traced.spans
    assert call.name == "text_completion scripted" and call.kind.name == "INTERNAL"
    assert (call.attributes["gen_ai.usage.input_tokens"], call.attributes["agentlab.commands"]) == (9, 3)


def test_a_call_of_which_nothing_is_known_claims_no_tokens(traced: Any) -> None:
    class Timed(ScriptedEngine):
        def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
            return [Scores(one.logprobs, Usage(seconds=1.0)) for one in super().score(requests)]

    Model(Timed({"look": 0.0})).score(Conversation("g"), ["look"])
    assert not [name for name in traced.spans[0].attributes if "usage" in name]


def test_a_request_by_an_adapter_names_it(traced: Any, tmp_path: Any) -> None:
    Model(ScriptedEngine({"look": 0.0}), Adapter("adapter-1", tmp_path)).score(Conversation("g"), ["look"])
    assert traced.spans[0].name == "text_completion scripted+adapter-1"
    assert traced.spans[0].attributes["agentlab.adapter"] == "adapter-1"


def test_what_is_written_is_a_chat_with_what_it_was_asked_by(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    Model(ScriptedEngine({}, answers=["Yes."])).write("Is it so?", max_tokens=9, temperature=0.5, seed=3)
    (call,) = traced.spans
    said = {name.removeprefix("gen_ai."): value for name, value in call.attributes.items()}
    assert said["operation.name"] == "chat"
    assert (said["request.max_tokens"], said["request.temperature"], said["request.seed"]) == (9, 0.5, 3)
    assert json.loads(said["input.messages"])[0]["parts"] == [{"type": "text", "content": "Is it so?"}]
    assert json.loads(said["output.messages"])[0]["parts"] == [{"type": "text", "content": "Yes."}]


def test_a_model_behind_an_api_is_asked_as_a_client(serve: Callable[..., Any], traced: Any) -> None:
    from agentlab.engines.chat import ChatEngine

    api = serve(lambda _: json.dumps({"command": "look"}))
    engine = ChatEngine("openai:m", server=api.url, patience=10)
    talk = engine.conversation("Find the coin.")
    talk.observe("You are here.", ["look"])
    Model(engine).write_turn(TurnRequest(talk, ["look"]))
    (call,) = traced.named("chat")
    assert (call.name, call.kind.name) == ("chat m", "CLIENT")
    assert call.attributes["gen_ai.provider.name"] == "openai"
    assert (call.attributes["gen_ai.usage.input_tokens"], call.attributes["gen_ai.usage.output_tokens"]) == (100, 10)
    assert "gen_ai.request.seed" not in call.attributes, "nothing is drawn at temperature 0"


def test_who_asks_an_api_in_another_thread_is_still_within_the_call(
    serve: Callable[..., Any], traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the spans of an instrumented HTTP client are."""
    from agentlab import tracing
    from agentlab.engines.chat import ChatEngine
    from agentlab.engines.provider import Provider

    once = Provider._once

    def told(self: Any, *asked: Any) -> Any:
        with tracing.span("POST"):
            return once(self, *asked)

    monkeypatch.setattr(Provider, "_once", told)
    engine = ChatEngine("openai:m", server=serve(lambda _: "Yes.").url, patience=10)
    Model(engine).write("Is it so?")
    with tracing.span("two"):
        engine.write([WriteRequest("Is it so?"), WriteRequest("And that?")])
    assert [traced.path(span) for span in traced.named("POST")] == ["chat m > POST", "two > POST", "two > POST"]
