"""Calls are written into successes where their answers make the right next action likelier, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import EngineFailed
from agentlab.search.calls import FAILED, NO_ROOM, NOT_AGAIN, UNEXPLAINED, CallsConfig, Kept, write_calls
from agentlab.trajectories.environment_pool import EnvironmentPool
from agentlab.trajectories.replay import replay
from environments import Task, TextEnv, make
from environments.tools import Seen, register_tool, unregister_tool
from memory.records import Episode
from memory.text import words
from tests.agentlab.oracle import ENV, SEED, Oracle, knowing, won


@pytest.fixture(autouse=True)
def oracle() -> Iterator[None]:
    register_tool("oracle", Oracle)
    yield
    unregister_tool("oracle")


class Twins(Oracle):
    """Knows the safe door, by either of two calls."""

    name, verbs = "twins", ("ask", "beg")

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["ask about doors", "beg about doors"]

    def answer(self, call: str, seen: Seen) -> str:
        return super().answer("ask about doors", seen)


@pytest.fixture
def twins() -> Iterator[None]:
    register_tool("twins", Twins)
    yield
    unregister_tool("twins")


@pytest.fixture
def written() -> Iterator[Callable[..., list]]:
    pool = EnvironmentPool()

    def made(*successes: Episode, engine: object = None, **config: float) -> list:
        model = Model(engine or ScriptedEngine(knowing))  # type: ignore[arg-type]
        return [called for _, called in write_calls(model, pool.lent, successes, CallsConfig(**config))]

    yield made
    pool.close()


def test_the_call_that_explains_an_action_is_written_before_it(written: Callable[..., list]) -> None:
    success = won()
    (called,) = written(success)
    first, second, last = success.actions
    ask = "ask about doors"
    assert called.episode.actions == [ask, first, ask, second, last]
    gain = pytest.approx(1.9)
    assert called.calls == [Kept(ask, first, gain, "oracle", 0), Kept(ask, second, gain, "oracle", 2)]
    assert [called.episode.actions[kept.step] for kept in called.calls] == [ask, ask]
    assert (called.tried, called.reason) == (4, "")
    episode = called.episode
    assert episode.won and episode.score == 1.0 and episode.minimised_from == success.id != episode.id
    assert not episode.token_ids and not episode.recalled
    assert ask in episode.steps[1].admissible or ask in episode.steps[0].admissible
    again = replay(make(ENV), Task(env=ENV, split="train", seed=SEED), episode.actions)
    assert again is not None and again.won


def test_what_the_model_is_sure_of_gets_no_call(written: Callable[..., list]) -> None:
    success = won()
    (called,) = written(success, engine=ScriptedEngine(lambda text, command: -0.2))
    assert called.episode.actions == success.actions and called.tried == 0


def test_a_success_that_no_call_explains_is_not_learned_from(written: Callable[..., list]) -> None:
    (called,) = written(won(), engine=ScriptedEngine(lambda text, command: -2.0))
    assert called.episode is None and called.reason == UNEXPLAINED and called.tried == 4 + 2
    (called,) = written(won(), gain=5.0)
    assert called.episode is None


def test_a_call_that_makes_an_action_likelier_whatever_is_answered_does_not_help(written: Callable[..., list]) -> None:
    def talkative(text: str, command: str) -> float:
        return -0.1 if "> ask" in text or not command.startswith("open ") else -2.0

    (called,) = written(won(), engine=ScriptedEngine(talkative))
    assert called.episode is None and called.reason == UNEXPLAINED


@pytest.mark.parametrize("verb", ["ask", "beg"])
def test_of_calls_that_tell_the_same_the_one_is_written_that_the_model_would_make(
    written: Callable[..., list], twins: None, verb: str
) -> None:
    def fond(text: str, command: str) -> float:
        return -3.0 if command.startswith(verb) else -4.0 if "about" in command else knowing(text, command)

    (called,) = written(won(env="toy/doors?tools=twins"), engine=ScriptedEngine(fond))
    assert [kept.call for kept in called.calls] == [f"{verb} about doors"] * 2


@pytest.mark.parametrize("other", ["ask about doors", "ask about doors to find the coin"])
def test_of_calls_that_tell_the_same_the_one_is_written_that_names_nothing_but_the_task(
    written: Callable[..., list], twins: None, other: str
) -> None:
    class Named(Twins):
        def calls(self, seen: Seen) -> Sequence[str]:
            return [other, "ask about the coin"]

    def fond(text: str, command: str) -> float:
        return -3.0 if command == other else -4.0 if "about" in command else knowing(text, command)

    register_tool("named", Named)
    try:
        (called,) = written(won(env="toy/doors?tools=named"), engine=ScriptedEngine(fond))
    finally:
        unregister_tool("named")
    assert {"coin", "find"} <= words(called.episode.goal)
    assert [kept.call for kept in called.calls] == ["ask about the coin"] * 2


def test_a_tool_is_asked_only_where_the_model_is_unsure(
    written: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Oracle, "answer", lambda *_: pytest.fail("asked"))
    (called,) = written(won(), engine=ScriptedEngine(lambda text, command: -0.2))
    assert called.episode is not None and not called.calls


def test_an_answer_that_names_another_command_more_fully_explains_nothing(
    written: Callable[..., list], twins: None
) -> None:
    """However likely it makes all doors."""

    class Misleading(Twins):
        def answer(self, call: str, seen: Seen) -> str:
            wrong = next(one for one in seen.commands if one.startswith("open ") and one not in success.actions)
            return f"Not so much a door as the {wrong.removeprefix('open ')} is safe."

    def trusting(text: str, command: str) -> float:
        return -1.0 if "is safe" in text.rstrip(">").rstrip().splitlines()[-1] else -5.0

    register_tool("misleading", Misleading)
    try:
        success = won(env="toy/doors?tools=misleading")
        (called,) = written(success, engine=ScriptedEngine(trusting))
    finally:
        unregister_tool("misleading")
    assert called.tried and not called.calls and called.reason == UNEXPLAINED


def test_what_a_tool_says_when_it_fails_explains_nothing(
    written: Callable[..., list], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Oracle.answer

    def failing(self: Oracle, call: str, seen: Seen) -> str:
        raise ValueError(answer(self, "ask about doors", seen))

    monkeypatch.setattr(Oracle, "answer", failing)
    (called,) = written(won())
    assert called.tried and called.episode is None and called.reason == UNEXPLAINED


def test_a_call_that_only_another_one_makes_possible_is_not_written_without_it(
    written: Callable[..., list], twins: None
) -> None:
    """The likelier call at the first door makes one at the second possible; in the end the shorter one is written."""

    class Following(Twins):
        def calls(self, seen: Seen) -> Sequence[str]:
            asked = any(call.action == "ask about doors" for call in seen.calls)
            first = ["ask about doors", "beg"] if len(seen.told) == 1 else []
            return first or (["ask again about doors"] if asked else [])

    def fond(text: str, command: str) -> float:
        return {"ask": -3.0, "beg": -4.0}.get(command.split()[0], knowing(text, command))

    register_tool("following", Following)
    try:
        (called,) = written(won(env="toy/doors?tools=following"), engine=ScriptedEngine(fond))
    finally:
        unregister_tool("following")
    assert called.episode.won and not any(step.invalid for step in called.episode.steps)
    assert [kept.call for kept in called.calls] == ["beg"]


def test_a_success_whose_environment_fails_is_told_and_the_next_has_one_of_its_own() -> None:
    made = list[str]()

    def failing_once(env_id: str, worker: object) -> TextEnv:
        made.append(env_id)
        if len(made) == 1:
            raise OSError("no connection")
        return make(env_id)

    pool, successes = EnvironmentPool(failing_once), [won().model_copy(update={"id": f"ep-{at}"}) for at in range(3)]
    found = {one.id: called for one, called in write_calls(Model(ScriptedEngine(knowing)), pool.lent, successes)}
    pool.close()
    assert found["ep-0"].episode is None and found["ep-0"].reason == FAILED and "no connection" in found["ep-0"].error
    assert all(found[id].calls and not found[id].error for id in ("ep-1", "ep-2"))


def test_a_success_of_a_seed_that_is_in_no_fold_is_told(written: Callable[..., list]) -> None:
    bad, good = won().model_copy(update={"id": "ep-bad", "seed": 10**9}), won()
    called = written(bad, good)
    assert sorted((one.reason == FAILED, one.episode is None) for one in called) == [(False, False), (True, True)]


def test_an_engine_that_fails_says_so_whatever_it_was_asked_for(written: Callable[..., list]) -> None:
    class Broken(ScriptedEngine):
        def conversation(self, *_: object, **__: object) -> Any:
            raise ZeroDivisionError

    with pytest.raises(EngineFailed):
        written(won(), engine=Broken(knowing))


def test_what_the_task_names_is_not_explained_by_other_things_where_it_does_not_help(
    written: Callable[..., list], twins: None
) -> None:
    class Named(Twins):
        verbs = ("ask about", "beg about")

        def calls(self, seen: Seen) -> Sequence[str]:
            return ["ask about doors", "ask about the coin", "beg about doors"]

        def answer(self, call: str, seen: Seen) -> str:
            known = call != "ask about the coin" or len(seen.told) == 1
            return super().answer(call, seen) if known and call != "beg about doors" else "It rains."

    register_tool("named", Named)
    try:
        (called,) = written(won(env="toy/doors?tools=named"))
    finally:
        unregister_tool("named")
    assert [kept.call for kept in called.calls] == ["ask about the coin"]


@pytest.mark.parametrize("rooms", [[0], [1]])
def test_of_calls_that_tell_the_same_the_one_is_written_that_explains_the_whole_way(
    written: Callable[..., list], twins: None, rooms: list[int]
) -> None:
    """Though the other, which only knows one of the two rooms, is the likelier call."""

    class Fleeting(Twins):
        def answer(self, call: str, seen: Seen) -> str:
            known = call != "ask about doors" or len(seen.told) - 1 in rooms
            return super().answer(call, seen) if known else "It rains."

    def fond(text: str, command: str) -> float:
        return -3.0 if command.startswith("ask") else -4.0 if "about" in command else knowing(text, command)

    register_tool("fleeting", Fleeting)
    try:
        (called,) = written(won(env="toy/doors?tools=fleeting"), engine=ScriptedEngine(fond))
    finally:
        unregister_tool("fleeting")
    assert called.episode.won and [kept.call for kept in called.calls] == ["beg about doors"] * 2
    assert [called.episode.actions[kept.step] for kept in called.calls] == ["beg about doors"] * 2


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_engine_whose_scores_are_no_numbers_writes_no_call(written: Callable[..., list], broken: float) -> None:
    with pytest.raises(EngineFailed):
        written(won(), engine=ScriptedEngine(lambda text, command: broken))


def test_calls_that_do_not_pay_any_more_are_left_out(written: Callable[..., list]) -> None:
    (before,) = written(won())
    idle = won("ask about the weather", *before.episode.actions)
    (called,) = written(idle)
    assert called.episode.actions == before.episode.actions
    sure = ScriptedEngine(lambda text, command: -0.1)
    (called,) = written(idle, engine=sure)
    assert not any(action.startswith("ask") for action in called.episode.actions)


def test_calls_that_leave_no_room_to_win_are_refused(written: Callable[..., list]) -> None:
    (called,) = written(won(env="toy/doors?step_limit=4,tools=oracle"))
    assert called.episode is None and called.reason == NO_ROOM


def test_a_success_that_is_none_in_this_game_is_told(written: Callable[..., list]) -> None:
    other = won().model_copy(update={"seed": SEED + 1})
    (called,) = written(other)
    assert called.episode is None and called.reason in (NOT_AGAIN, NO_ROOM)


def test_many_successes_come_to_what_each_comes_to_alone(written: Callable[..., list]) -> None:
    success = won()
    many = [success.model_copy(update={"id": f"ep-x{at}"}) for at in range(20)]
    alone = [called.episode.actions for one in many for called in written(one)]
    asked: list[int] = []

    class Counting(ScriptedEngine):
        def score(self, requests):  # type: ignore[no-untyped-def]
            asked.append(len(requests))
            return super().score(requests)

    together = written(*many, engine=Counting(knowing))
    assert [called.episode.actions for called in together] == alone
    assert max(asked) == 16 and len({called.episode.id for called in together}) == 20


def test_a_game_without_tools_stays_as_it_is(written: Callable[..., list]) -> None:
    success = won(env="toy/doors")
    (called,) = written(success)
    assert called.episode is success
