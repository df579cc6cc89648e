"""A game with tools is a game: calls stand among its commands, and it does not move while one is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from environments import BadParameter, Task, TextEnv, canonical, make
from environments.check import check_or_raise
from environments.tools import Seen, Use, WithTools, register_tool, unregister_tool, wrapper
from environments.tools.calculator import Calculator

ENV = "toy/doors?tools=guide"


class Guide:
    """Says which door is safe, once the note was read; what else it does a test may set."""

    name = "guide"
    verbs: tuple[str, ...] = ("ask guide",)

    def __init__(self) -> None:
        self.said: Callable[[], object] | None = None

    def calls(self, seen: Seen) -> Sequence[str]:
        return ["ask guide", "look", "sing"] if any(call.action == "read note" for call in seen.told) else []

    def answer(self, call: str, seen: Seen) -> str:
        if self.said is not None:
            return self.said()  # type: ignore[return-value]
        return f"Go on. {len(seen.told)} answers, {len(seen.commands)} commands."


@pytest.fixture
def guide() -> Iterator[Guide]:
    made = Guide()
    register_tool("guide", lambda: made)
    yield made
    unregister_tool("guide")


@pytest.fixture
def env(guide: Guide) -> TextEnv:
    return make(ENV)


def begun(env: TextEnv) -> dict[str, object]:
    return dict(env.start(Task(env=env.env_id, split="train", seed=0))[1])


def test_the_id_names_the_tools_in_one_form(guide: Guide) -> None:
    assert canonical("toy/doors?tools=sort + guide,colours=3") == "toy/doors?tools=guide+sort"
    assert make("toy/doors?tools=guide", colours=2).env_id == "toy/doors?colours=2,tools=guide"
    assert canonical("toy/doors?tools=none,rooms=1") == "toy/doors?rooms=1"
    assert make("toy/doors?rooms=1", tools="none").env_id == "toy/doors?rooms=1"
    with pytest.raises(BadParameter, match="guide"):
        canonical("toy/doors?tools=guid")
    with pytest.raises(BadParameter):
        make("toy/doors?tools=+")


def test_a_call_is_answered_and_the_game_stands_still(env: TextEnv) -> None:
    plain = make("toy/doors")
    _, before = plain.start(Task(env="toy/doors", split="train", seed=0))
    assert begun(env) == dict(before), "no call makes sense yet"
    _, _, _, _, read = env.step("read note")
    assert sorted({*before["admissible_commands"], "ask guide"}) == read["admissible_commands"]
    answer, reward, terminated, _, info = env.step("ask guide")
    assert answer == f"Go on. 2 answers, {len(before['admissible_commands'])} commands."
    assert (reward, terminated, info["score"]) == (0.0, False, read["score"])
    assert info["admissible_commands"] == before["admissible_commands"], "it was answered, and nothing moved since"
    assert info["state"] != read["state"] and info["state"].startswith(str(read["state"]))
    _, _, _, _, after = env.step("look")
    assert "ask guide" in after["admissible_commands"] and answer not in after["state"]


def test_calls_cost_steps(env: TextEnv) -> None:
    begun(env)
    ends = [env.step("ask guide")[3] for _ in range(10)]
    assert ends == [False] * 9 + [True]


def test_a_command_of_the_game_is_never_taken_for_a_call(env: TextEnv, guide: Guide) -> None:
    guide.verbs = ("ask guide", "look")
    begun(env)
    assert "Go on" not in env.step("look")[0]


@pytest.mark.parametrize(
    "said",
    [
        lambda: 1 / 0,
        lambda: "",
        lambda: None,
        lambda: 7,
        lambda: exit(3),
        lambda: "x" * 10**6,
        lambda: "a\x1b[2J\ud800",
    ],
)
def test_a_tool_that_fails_answers_with_a_line_and_the_game_goes_on(
    env: TextEnv, guide: Guide, said: Callable[[], object]
) -> None:
    guide.said = said
    begun(env)
    env.step("read note")
    answer, reward, terminated, truncated, info = env.step("ask guide")
    assert answer and len(answer) <= 2000 and "\n" not in answer and reward == 0.0
    assert not terminated and not truncated and info["admissible_commands"]
    guide.said = None
    env.step("look")
    assert env.step("ask guide")[0].startswith("Go on")


def test_a_tool_that_hangs_is_given_up_and_asked_again_later(
    env: TextEnv, guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapper, "TOOL_LIMIT", 0.05)
    guide.said = lambda: time.sleep(3)
    begun(env)
    env.step("read note")
    assert env.step("ask guide")[0].startswith("guide: ")
    guide.said = None
    env.step("look")
    assert env.step("ask guide")[0].startswith("Go on")


def test_a_tool_that_cannot_propose_offers_nothing(env: TextEnv, guide: Guide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guide, "calls", lambda self, seen: 1 / 0)
    assert begun(env)["admissible_commands"] == begun(make("toy/doors"))["admissible_commands"]


def test_a_game_with_tools_keeps_what_a_game_keeps(guide: Guide) -> None:
    for env in (ENV, "toy/doors?tools=calculator+navigator+notes+sort"):
        check_or_raise(env)


def test_a_problem_is_solved_with_a_call_that_was_proposed() -> None:
    env = make("twx/arithmetic?tools=calculator")
    try:
        _, info = env.start(Task(env=env.env_id, split="train", seed=5))
        for action in ("take math problem", "read math problem", "calculate 35 * 20"):
            assert action in (info["admissible_commands"] or ())
            answer, *_, info = env.step(action)
        assert answer == "35 * 20 = 700: 700 grapes."
        for action in ("take 700 grapes", "put 700 grapes in box"):
            *_, info = env.step(action)
        assert info["won"] and info["score"] == 1.0
    finally:
        env.close()


def test_a_calculator_is_a_tool_by_its_shape() -> None:
    from environments.tools import Tool

    assert isinstance(Calculator(), Tool) and isinstance(Guide(), Tool)


def test_a_tool_that_is_held_out_is_neither_offered_nor_answered_until_it_is_back(env: TextEnv) -> None:
    assert isinstance(env, WithTools)
    env.hold_out(["guide"])
    begun(env)
    _, _, _, _, read = env.step("read note")
    assert "ask guide" not in read["admissible_commands"] and not env.is_call("ask guide")
    assert env.step("ask guide")[0] == "Nothing happens.", "the game was told it"
    assert env.env_id == ENV and env.uses["guide"] == Use()
    env.hold_out([])
    begun(env)
    assert "ask guide" in env.step("read note")[4]["admissible_commands"]


def test_it_is_counted_how_often_a_tool_is_offered_and_called_in_a_game(env: TextEnv) -> None:
    assert isinstance(env, WithTools)
    begun(env)
    for action in ("read note", "ask guide", "look", "look", "ask guide"):
        env.step(action)
    # At the calls and at the second look; after an answer it was not offered again, and what is offered last was not
    # chosen from.
    assert env.uses["guide"] == Use(steps=3, proposed=3, made=2)
    begun(env)
    assert env.uses["guide"] == Use()
