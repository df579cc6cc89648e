"""The chat engine against a scripted API, through LangChain's real client of OpenAI."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentlab.engines import provider
from agentlab.engines.base import TurnRequest, WriteRequest
from agentlab.engines.chat import DROPPED, REASONING, ChatEngine
from agentlab.engines.model import Model
from agentlab.engines.provider import Price
from agentlab.errors import (
    ApiRefused,
    ContextExceeded,
    EngineFailed,
    MissingPackage,
    Stopped,
    UnknownModel,
)
from agentlab.testing import check_engine
from memory.prompts import Message, Prompting

Serve = Callable[..., Any]
COMMANDS = ["look", "open door"]


@pytest.fixture
def asked(serve: Serve) -> Iterator[Callable[..., Any]]:
    """Gives the turn that comes of some answers, one after the other, and the requests that it took."""

    def turn(*answers: Any, thought: bool = True, commands: list[str] | None = COMMANDS, **settings: Any) -> Any:
        left = iter(answers)
        api = serve(lambda _: next(left))
        engine = ChatEngine("openai:m", server=api.url, **{"patience": 10, **settings})
        talk = engine.conversation("Find the coin.", "The note is true.", Prompting(thought=thought))
        talk.observe("You are here.", commands)
        return Model(engine).write_turn(TurnRequest(talk, commands, think=16)), api.asked

    yield turn


def turn_of(command: str, thought: str = "So be it.") -> str:
    return json.dumps({"thought": thought, "command": command})


def error(message: str, status: int, **headers: str) -> dict[str, Any]:
    return {"status": status, "body": json.dumps({"error": {"message": message}}), "headers": headers}


def test_it_keeps_what_an_engine_that_writes_keeps(serve: Serve) -> None:
    api = serve(lambda request: f"It was said: {request['messages'][-1]['content'][:40]}")
    check_engine(ChatEngine("openai:m", server=api.url)).raise_for_failures()


def test_the_messages_are_those_of_the_chat_that_is_trained_on(asked: Any) -> None:
    turn, (request,) = asked(turn_of("look"))
    assert (turn.command, turn.thought) == ("look", "So be it.")
    system, user = request["messages"]
    assert system["role"] == "system" and "The note is true." in system["content"]
    assert (
        user["role"] == "user" and user["content"].startswith("Task: Find the coin.") and "open door" in user["content"]
    )


def test_a_chat_that_is_gone_on_with_stands_before_the_prompt(serve: Serve) -> None:
    api = serve(lambda _: {"text": "Canberra, and", "finish": "length"})
    before = [Message("system", "Be brief."), Message("user", "Hello."), Message("assistant", "Hello!")]
    writing = Model(ChatEngine("openai:m", server=api.url)).write("The capital?", before=before, whole=True)
    assert (writing.text, writing.cut) == ("Canberra, and", True)
    said = [(one["role"], one["content"]) for one in api.asked[0]["messages"]]
    assert said == [*((one.role, one.text) for one in before), ("user", "The capital?")]


def test_what_was_done_and_an_objection_stand_in_the_messages(serve: Serve) -> None:
    api = serve(lambda _: turn_of("look"))
    engine = ChatEngine("openai:m", server=api.url)
    talk = engine.conversation("Find the coin.", prompting=Prompting(thought=True))
    talk.observe("You are here.", COMMANDS)
    talk.act("open door", "There is a door.")
    talk.observe("You are there.", COMMANDS)
    engine.write_turns([TurnRequest(talk, COMMANDS, refused="sing", objection="That is not possible.")])
    roles = [message["role"] for message in api.asked[0]["messages"]]
    said = [message["content"] for message in api.asked[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert said[2] == "Thought: There is a door.\nAction: open door"
    assert said[4:] == ["sing", "That is not possible."]
    assert talk.token_ids == [] and "sing" not in talk.text


def test_a_turn_is_held_to_the_commands_with_its_thought_before(asked: Any) -> None:
    _, (request,) = asked(turn_of("look"))
    held = request["response_format"]["json_schema"]
    assert held["strict"] and list(held["schema"]["properties"]) == ["thought", "command"]
    assert held["schema"]["properties"]["command"]["enum"] == COMMANDS
    _, (request,) = asked('{"command": "look"}', thought=False)
    assert list(request["response_format"]["json_schema"]["schema"]["properties"]) == ["command"]
    _, (request,) = asked("look", commands=None)
    assert "response_format" not in request


def test_a_server_that_takes_no_schema_is_asked_for_plain_text(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> Any:
        schema = request.get("response_format", {}).get("json_schema")
        if schema and len(schema["schema"]["properties"]["command"]["enum"]) > 2:
            return error("too many", 400)
        return turn_of("look") if schema else "Thought: Hm.\nAction: open door"

    api = serve(answer)
    engine = ChatEngine("openai:m", server=api.url)
    talk = engine.conversation("Find the coin.", prompting=Prompting(thought=True))
    talk.observe("You are here.")
    many, few = TurnRequest(talk, [*COMMANDS, "wait"]), TurnRequest(talk, COMMANDS)
    first, again, held = (engine.write_turns([one])[0] for one in (many, many, few))
    assert (first.command, first.thought) == ("open door", "Hm.") and again.command == "open door"
    assert held.command == "look"
    # It is refused once, and not asked again with as many.
    assert ["response_format" in request for request in api.asked] == [True, False, False, True]


def test_a_model_of_langchain_that_binds_no_tools_is_asked_for_plain_text(serve: Serve) -> None:
    from langchain_core.language_models import FakeListChatModel

    engine = ChatEngine("openai:m", server=serve(lambda _: turn_of("look")).url)
    engine.provider.client = FakeListChatModel(responses=["Action: open door"])
    talk = engine.conversation("Find the coin.")
    talk.observe("You are here.", COMMANDS)
    assert Model(engine).write_turn(TurnRequest(talk, COMMANDS)).command == "open door"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Thought: I see.\nAction: look", "look"),
        ('```json\n{"thought": "I see.", "command": "look"}\n```', "look"),
        ('{"thought": "I see', ""),
        ('{"thought": "I see.", "command": 3}', ""),
        ("", ""),
    ],
)
def test_what_a_server_that_ignores_the_schema_writes_is_read(asked: Any, text: str, command: str) -> None:
    turn, _ = asked({"text": text})
    assert turn.command == command


BROKEN: list[Any] = [
    error("slow down", 429, **{"retry-after": "0"}),
    error("at fault", 500),
    {"status": 503, "body": "<html>busy</html>"},
    {"text": turn_of("look"), "missing": 20},
    {"body": "<html>a portal</html>", "headers": {"content-type": "text/html"}},
    {"body": "{ no JSON"},
    {"body": "null"},
    {"body": '{"choices": []}'},
    {"body": '{"choices": null, "error": {"message": "engine died"}}'},
]


@pytest.mark.parametrize("commands", [COMMANDS, None])
def test_what_is_over_in_a_moment_is_tried_again(asked: Any, commands: list[str] | None) -> None:
    turn, requests = asked(*BROKEN, turn_of("look"), commands=commands, patience=60)
    assert turn.command == "look" and len(requests) == len(BROKEN) + 1


def test_what_does_not_end_is_a_failure_of_the_engine_within_its_time(serve: Serve) -> None:
    api = serve(lambda _: error("at fault", 500))
    began = time.monotonic()
    with pytest.raises(EngineFailed, match="no answer"):
        ChatEngine("openai:m", server=api.url, patience=1).write([WriteRequest("Hm?")])
    assert time.monotonic() - began < 10 and len(api.asked) > 1


def test_a_server_that_wants_too_long_a_wait_is_not_waited_for(serve: Serve) -> None:
    api = serve(lambda _: error("slow down", 429, **{"retry-after": "3600"}))
    with pytest.raises(EngineFailed, match="3600"):
        ChatEngine("openai:m", server=api.url).write([WriteRequest("Hm?")])
    assert len(api.asked) == 1


def test_a_server_that_hangs_is_given_up(serve: Serve) -> None:
    hang = threading.Event()
    api = serve(lambda _: (hang.wait(20) and "") or "")
    try:
        with pytest.raises(EngineFailed, match="nothing came"):
            ChatEngine("openai:m", server=api.url, patience=0.4).write([WriteRequest("Hm?")])
        engine, caught = ChatEngine("openai:m", server=api.url), list[BaseException]()

        def ask() -> None:
            try:
                engine.write([WriteRequest("Hm?")])
            except Stopped as error:
                caught.append(error)

        waiting = threading.Thread(target=ask)
        waiting.start()
        while len(api.asked) < 3:
            time.sleep(0.01)
        engine.give_up(Stopped("Enough."))
        waiting.join(10)
        assert [str(error) for error in caught] == ["Enough."]
    finally:
        hang.set()


@pytest.mark.parametrize(
    "answer",
    [
        error("no such key", 401),
        error("not yours", 403),
        error("no such model", 404),
        error("insufficient_quota: pay", 429),
    ],
)
def test_what_stays_as_it_is_ends_the_run_at_once(serve: Serve, answer: Any) -> None:
    api = serve(lambda _: answer)
    with pytest.raises(ApiRefused):
        ChatEngine("openai:m", server=api.url).write([WriteRequest("Hm?")])
    assert len(api.asked) == 1


def test_a_request_that_is_not_taken_is_a_failure_of_one_episode(serve: Serve) -> None:
    api = serve(lambda _: error("odd", 400))
    with pytest.raises(EngineFailed, match="odd"):
        ChatEngine("openai:m", server=api.url).write([WriteRequest("Hm?")])
    assert len(api.asked) == 1


def test_no_secret_is_said(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-4711")
    api = serve(lambda _: error("the key very-secret-4711 is wrong, and so is sk-abcdef123456", 401))
    with pytest.raises(ApiRefused) as refused:
        ChatEngine("openai:m", server=api.url).write([WriteRequest("Hm?")])
    assert api.keys == ["Bearer very-secret-4711"]
    assert "4711" not in str(refused.value) and "abcdef" not in str(refused.value)


def test_a_refusal_is_an_answer_without_a_command(asked: Any) -> None:
    turn, requests = asked({"text": None, "message": {"refusal": "I cannot help with that."}})
    assert turn.text == "I cannot help with that." and turn.command not in COMMANDS and len(requests) == 1


def test_an_answer_that_is_cut_off_is_one_all_the_same(asked: Any) -> None:
    turn, requests = asked({"text": '{"thought": "I', "finish": "length"})
    assert turn.command == "" and turn.usage.output_tokens == 10 and len(requests) == 1


def test_a_model_that_reasons_first_gets_room_for_it_and_no_temperature(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> Any:
        if "temperature" in request:
            return error("Unsupported value: 'temperature' does not support 0.0 with this model.", 400)
        if request["max_completion_tokens"] < REASONING:
            return {"text": "", "finish": "length", "tokens": (100, 50)}
        return turn_of("look")

    api = serve(answer)
    engine = ChatEngine("openai:m", server=api.url)
    talk = engine.conversation("Find the coin.", prompting=Prompting(thought=True))
    talk.observe("You are here.")
    first, second = (engine.write_turns([TurnRequest(talk, COMMANDS)])[0] for _ in range(2))
    assert first.command == second.command == "look" and len(api.asked) == 4
    assert first.usage.output_tokens == 60 and second.usage.output_tokens == 10


@pytest.mark.parametrize("refusal", ["maximum context length is 128", "max_completion_tokens is too large: 4096"])
def test_a_model_without_room_to_reason_goes_on_as_before(serve: Serve, refusal: str) -> None:
    said = iter([{"text": " ", "finish": "length"}, None, turn_of("look")])

    def answer(request: dict[str, Any]) -> Any:
        return error(refusal, 400) if request["max_completion_tokens"] >= REASONING else next(said) or turn_of("wait")

    engine = ChatEngine("openai:m", server=serve(answer).url)
    talk = engine.conversation("Find the coin.", prompting=Prompting(thought=True))
    talk.observe("You are here.")
    first, _, third = (engine.write_turns([TurnRequest(talk, COMMANDS)])[0] for _ in range(3))
    assert first.command == "" and first.usage.output_tokens == 10
    assert third.command == "look" and talk.left_out == 0


def test_what_a_filter_has_ended_is_not_asked_again_with_more_room(asked: Any) -> None:
    turn, requests = asked({"text": "", "finish": "content_filter"})
    assert turn.command == "" and len(requests) == 1


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_a_server_is_found_with_and_without_the_path_of_its_interface(serve: Serve, end: str) -> None:
    api = serve(lambda _: "Hm.")
    ChatEngine("openai:m", server=api.url.removesuffix("/v1") + end).write([WriteRequest("Hm?")])
    assert api.paths == ["/v1/chat/completions"]


def test_what_is_too_long_loses_its_oldest_turns_and_never_its_task(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> Any:
        return error("maximum context length is 9", 400) if len(request["messages"]) > 12 else turn_of("look")

    api = serve(answer)

    def talked(turns: int) -> tuple[ChatEngine, Any]:
        engine = ChatEngine("openai:m", server=api.url)
        talk = engine.conversation("Find the coin.", "The note is true.")
        for number in range(turns):
            talk.observe(f"Room {number}.", COMMANDS)
            talk.act("look") if number < turns - 1 else None
        return engine, talk

    def read(engine: ChatEngine, talk: Any) -> list[str]:
        engine.write_turns([TurnRequest(talk, COMMANDS)])
        return [message["content"] for message in api.asked[-1]["messages"]]

    engine, talk = talked(18)
    shown = read(engine, talk)
    assert "The note is true." in shown[0] and shown[1].startswith("Task: Find the coin.")
    assert "Room 17." in shown[-1] and f"Room {2 * DROPPED}." in shown[1]
    # One that is resumed reads the same as one that went on.
    talk.act("look")
    talk.observe("Room 18.", COMMANDS)
    later = read(engine, talk)
    engine, again = talked(19)
    assert read(engine, again) == later
    engine, short = talked(7)
    with pytest.raises(ContextExceeded):
        engine.write_turns([TurnRequest(short, COMMANDS)])


def test_what_an_answer_took_is_counted_with_its_price(asked: Any) -> None:
    turn, _ = asked({"text": turn_of("look"), "tokens": (1000, 100)}, price=Price(2.0, 10.0))
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (1000, 100)
    assert turn.usage.cost == pytest.approx(0.003) and turn.usage.seconds > 0


def test_many_are_asked_beside_each_other_and_answered_in_order(serve: Serve) -> None:
    together = threading.Barrier(4)

    def answer(request: dict[str, Any]) -> str:
        together.wait(10)
        return str(request["messages"][0]["content"])

    engine = ChatEngine("openai:m", server=serve(answer).url)
    assert [one.text for one in engine.write([WriteRequest(name) for name in "abcd"])] == ["a", "b", "c", "d"]


def test_a_sample_is_drawn_by_its_seed(serve: Serve) -> None:
    api = serve(lambda _: "Yes.")
    engine = ChatEngine("openai:m", server=api.url)
    engine.write([WriteRequest("Hm?")])
    engine.write([WriteRequest("Hm?", temperature=0.7, seed=5)])
    assert "seed" not in api.asked[0] and (api.asked[1]["temperature"], api.asked[1]["seed"]) == (0.7, 5)


def test_what_cannot_be_asked_is_refused_before_anything_is(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ApiRefused, match="OPENAI_API_KEY"):
        ChatEngine("openai:m")
    with pytest.raises(UnknownModel, match="PROVIDER:MODEL"):
        ChatEngine("gpt")
    with pytest.raises(UnknownModel, match="nobody"):
        ChatEngine("nobody:m")
    monkeypatch.setitem(provider.EXTRAS, "anthropic", "no_such_package")
    with pytest.raises(MissingPackage, match=r"agentlab\[anthropic\]"):
        ChatEngine("anthropic:m")


@pytest.mark.parametrize("said", ['{"a":' * 100_000 + "}", "{" * 5000 + "}" * 5000])
def test_an_answer_that_is_nested_without_end_names_no_command(asked: Any, said: str) -> None:
    turn, _ = asked(said)
    assert turn.command not in COMMANDS


@pytest.mark.parametrize("commands", [COMMANDS, None])
def test_halves_of_characters_in_an_answer_are_replaced_since_no_file_can_hold_them(
    asked: Any, commands: list[str] | None
) -> None:
    turn, _ = asked(r'{"thought": "So\ud800 é.", "command": "look\udfff"}', commands=commands)
    assert (turn.thought, turn.command) == ("So? é.", "look?")
    turn.text.encode()
