from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, Text

from environments import EnvironmentsError, GymTextEnv, Task, TextEnv, Turn
from environments.base import AnyText

HALF = "half an emoji: \ud83d."


class Says(TextEnv):
    """Answers the first action with what it is told to."""

    def __init__(self, **said: Any) -> None:
        super().__init__("own/says", step_limit=9)
        self.said = said
        self.heard: list[str] = []

    def begin(self, task: Task) -> Turn:
        return Turn("A room.", ["go", "wait"], goal="Leave.")

    def act(self, action: str) -> Turn:
        self.heard.append(action)
        return Turn("A room.", ["go", "wait"], 0.5)._replace(**self.said)


def answer(**said: Any) -> Any:
    env = Says(**said)
    env.reset(seed=0)
    return env.step("go")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("observation", None),
        ("observation", b"A room."),
        ("observation", ["A room."]),
        ("admissible", "go"),
        ("admissible", {"go": 1}),
        ("admissible", [0, 1]),
        ("admissible", np.array([0, 1])),
        ("admissible", [object()]),
        ("admissible", 7),
        ("score", float("nan")),
        ("score", float("inf")),
        ("score", "high"),
        ("score", 7.0),
        ("score", True),
        ("value", float("nan")),
        ("value", float("-inf")),
        ("value", [1.0]),
        ("value", 10**400),
        ("won", [False]),
        ("won", "no"),
        ("lost", object()),
        ("state", 3),
        ("goal", {"find": "coin"}),
    ],
)
def test_an_answer_of_a_wrong_type_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(EnvironmentsError) as caught:
        answer(**{field: value})
    assert getattr(caught.value, "field", None) == field
    text = str(caught.value)
    assert "own/says" in text and f"`{field}`" in text and "\n" not in text


def test_what_is_not_told_is_as_if_it_were_left_out() -> None:
    *_, terminated, truncated, info = answer(score=None, won=None, lost=None, state=None, value=None)
    assert (terminated, truncated, info["won"], info["lost"], info["score"]) == (False, False, False, False, 0.0)
    assert info["goal"] == "Leave."


def test_where_no_commands_can_be_listed_any_text_is_taken() -> None:
    *_, info = answer(admissible=None)
    assert info["admissible_commands"] is None


def test_numbers_and_truths_of_numpy_are_numbers_and_truths() -> None:
    _, reward, terminated, _, info = answer(
        score=np.float32(0.25), value=np.int64(3), won=np.bool_(True), lost=0, admissible=np.array(["b", "a", "b"])
    )
    assert (reward, terminated, info["score"], info["won"]) == (3.0, True, 0.25, True)
    assert info["admissible_commands"] == ["a", "b"]
    assert all(type(command) is str for command in info["admissible_commands"])


@pytest.mark.parametrize("given", [("b", "a", "b"), {"a", "b"}, iter(["b", "a"])])
def test_commands_may_come_in_any_collection_of_texts(given: Any) -> None:
    assert answer(admissible=given)[4]["admissible_commands"] == ["a", "b"]


def test_half_characters_are_replaced_in_all_that_is_told() -> None:
    observation, *_, info = answer(observation=HALF, state=HALF, goal=HALF, admissible=[HALF])
    for text in (observation, info["state"], info["goal"], *info["admissible_commands"]):
        assert text == "half an emoji: ?."


def test_commands_reach_the_environment_as_it_gave_them() -> None:
    odd = ["", "  ", "go north", " go north", "go north ", "go\nnorth", HALF]
    env = Says(admissible=odd)
    env.reset(seed=0)
    told = env.step("go")[4]["admissible_commands"]
    assert len(told) == len(odd)
    for command in told:
        env.step(command)
    assert sorted(env.heard[1:]) == sorted(odd)


def test_what_rounding_adds_to_a_score_is_cut() -> None:
    assert answer(score=1 + 1e-12)[4]["score"] == 1.0
    assert answer(score=-1e-12)[4]["score"] == 0.0


def test_something_else_than_a_turn_is_refused() -> None:
    class Bare(Says):
        def act(self, action: str) -> Turn:
            return "A room."  # type: ignore[return-value]

    env = Bare()
    env.reset(seed=0)
    with pytest.raises(EnvironmentsError, match=r"no `Turn`"):
        env.step("go")


class Wrapped(gymnasium.Env):
    """Say something."""

    observation_space: Any = AnyText(1000)
    action_space: Any = Text(100)

    def __init__(self, observation: Any = "A room.", reward: Any = 0.0, terminated: Any = False, **info: Any) -> None:
        self.answer = (observation, reward, terminated, False, info)

    def reset(self, *, seed=None, options=None):
        return "A room.", {}

    def step(self, action):
        return self.answer


def wrapped(**said: Any) -> Any:
    env = GymTextEnv(Wrapped(**said), env_id="own/wrapped")
    env.reset(seed=0)
    return env.step("go")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("observation", None),
        ("observation", b"A room."),
        ("reward", float("nan")),
        ("reward", float("inf")),
        ("reward", None),
        ("terminated", None),
        ("admissible_commands", {"go": 1, "wait": 2}),
        ("valid_actions", "go"),
        ("available_actions", [object()]),
        ("valid_commands", [1, 2]),
        ("won", [False]),
        ("won", "yes"),
        ("lost", [True]),
        ("score", float("nan")),
        ("score", "1.0"),
        ("goal", ["find"]),
        ("state", 7),
    ],
)
def test_a_wrapped_environment_is_refused_by_the_name_in_its_info(field: str, value: Any) -> None:
    with pytest.raises(EnvironmentsError) as caught:
        wrapped(**{field: value})
    assert getattr(caught.value, "field", None) == field and "own/wrapped" in str(caught.value)


def test_what_a_wrapped_environment_says_to_be_none_is_made_up_for() -> None:
    told = dict.fromkeys(("won", "lost", "score", "goal", "state", "admissible_commands"))
    *_, info = wrapped(reward=1.0, terminated=True, **told)
    assert (info["won"], info["lost"], info["score"]) == (True, False, 1.0)
    *_, info = wrapped(reward=0.0, terminated=True, **told)
    assert (info["won"], info["lost"], info["goal"]) == (False, True, "Say something.")


@pytest.mark.parametrize("given", [("wait", "go"), np.array(["go", "wait"]), {"go", "wait"}])
def test_commands_of_a_wrapped_environment_may_come_in_any_collection(given: Any) -> None:
    assert wrapped(valid_actions=given)[4]["admissible_commands"] == ["go", "wait"]


class Counted(Wrapped):
    """Gain five twice."""

    action_space = Discrete(2)

    def __init__(self) -> None:
        super().__init__(reward=5.0, available_actions=np.array([1]), state="the state")


def test_an_action_that_does_not_exist_changes_nothing() -> None:
    env = GymTextEnv(Counted(), action_names=["left", "right"])
    _, before = env.reset(seed=0)
    rewards = []
    for action in ("right", "up", "right"):
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        assert (terminated, truncated) == (False, False)
        assert info["state"] == "the state"
        assert ("There is no action" in observation) is (action == "up")
    assert rewards == [5.0, 0.0, 5.0]
    assert before["admissible_commands"] == ["left", "right"]
    assert info["admissible_commands"] == ["right"], "actions may be offered by their numbers"
