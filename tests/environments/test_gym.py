from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text

from environments import BadParameter, EnvironmentsError, GymTextEnv, NotPlaying, UnknownEnvironment, make
from environments.base import AnyText
from environments.check import check


class Guess(gymnasium.Env):
    """Guess whether the coin shows heads or tails.

    More about it.
    """

    observation_space: Any = AnyText(100)
    action_space: Any = Text(100)

    def __init__(self, ends_by: str = "terminated", tells: bool = False) -> None:
        self.ends_by = ends_by
        self.tells = tells

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        self.toss = int(self.np_random.integers(10**6))
        info = {"valid_actions": ["tails", "heads"], "goal": "Guess.", "score": 0, "state": "spinning"}
        return f"Coin {self.toss} spins.", info if self.tells else {}

    def step(self, action):
        right = action == ("heads", "tails")[self.side]
        told = {"won": right, "lost": not right, "score": 7.0 if right else 0.0, "admissible_commands": []}
        ends = (True, False) if self.ends_by == "terminated" else (False, True)
        return "It falls.", float(right), *ends, told if self.tells else {}


class Numbered(Guess):
    action_space = Discrete(2, start=1)

    def step(self, action):
        return super().step(("heads", "tails")[action - 1])


class InDict(Guess):
    observation_space = Dict({"image": Box(0, 1), "words": AnyText(100)})

    def reset(self, *, seed=None, options=None):
        text, info = super().reset(seed=seed)
        return {"image": 0, "words": text}, info

    def step(self, action):
        _, *rest = super().step(action)
        return {"image": 0, "words": "It falls."}, *rest


class Picture(Guess):
    observation_space = Box(0, 1)


class Lever(Guess):
    action_space = Box(0, 1)


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register("Guess-v0", entry_point=Guess)
    yield
    del gymnasium.registry["Guess-v0"]


def test_any_text_environment_of_gymnasium_is_made_by_its_id() -> None:
    env = make("gym/Guess-v0?step_limit=4,tells=1")
    observation, info = env.reset(seed=0)
    assert env.env_id == "gym/Guess-v0?step_limit=4,tells=1" and env.step_limit == 4
    assert observation.startswith("Coin")
    assert info["admissible_commands"] == ["heads", "tails"]
    assert (info["goal"], info["state"]) == ("Guess.", "spinning")
    env.close()


def test_an_unknown_id_is_answered_with_a_suggestion() -> None:
    with pytest.raises(UnknownEnvironment, match="did you mean `Guess-v0`"):
        make("gym/Gues-v0")


def test_what_gymnasium_cannot_make_is_a_clear_error() -> None:
    for odd in ("a:b:c", "toy/doors:train:", "no_such_module:x", "Guess-v0-v1-"):
        with pytest.raises(EnvironmentsError, match="gymnasium"):
            make(f"gym/{odd}")
    with pytest.raises(EnvironmentsError, match=r"cannot make `Guess-v0`.*check what it needs"):
        make("gym/Guess-v0?sides=3")


def test_what_the_info_does_not_tell_is_made_up_for() -> None:
    env = GymTextEnv(Guess())
    _, info = env.reset(seed=0)
    assert info["goal"] == "Guess whether the coin shows heads or tails."
    assert info["admissible_commands"] is None
    ends = set()
    for guess in ("heads", "tails"):
        env.reset(seed=0)
        *_, terminated, truncated, info = env.step(guess)
        assert terminated and not truncated
        ends.add((info["won"], info["lost"], info["score"]))
    assert ends == {(True, False, 1.0), (False, True, 0.0)}


def test_what_the_info_tells_is_taken_over_and_a_score_is_cut_to_one() -> None:
    env = GymTextEnv(Guess(tells=True), goal="not this")
    scores = set()
    for guess in ("heads", "tails"):
        assert env.reset(seed=3)[1]["goal"] == "Guess."
        scores.add((env.step(guess)[4]["score"], env.step_limit))
    assert scores == {(0.0, 100), (1.0, 100)}


def test_numbered_actions_have_names() -> None:
    env = GymTextEnv(Numbered(), action_names=["heads", "tails"], goal="Guess the side.")
    _, info = env.reset(seed=1)
    assert info["admissible_commands"] == ["heads", "tails"] and info["goal"] == "Guess the side."
    observation, reward, terminated, *_ = env.step("edge")
    assert (reward, terminated) == (0, False) and "there are heads, tails" in observation
    assert env.step("heads")[0] == "It falls."
    assert GymTextEnv(Numbered()).reset(seed=1)[1]["admissible_commands"] == ["1", "2"]


def test_numbered_actions_with_too_few_names_are_refused() -> None:
    with pytest.raises(EnvironmentsError, match="2 actions, and 1 different names"):
        GymTextEnv(Numbered(), action_names=["heads", "heads"])


def test_the_text_is_found_in_a_dictionary() -> None:
    env = GymTextEnv(InDict())
    assert env.reset(seed=0)[0].startswith("Coin")
    assert env.step("heads")[0] == "It falls."


def test_an_episode_that_the_environment_cuts_short_is_neither_won_nor_lost() -> None:
    env = GymTextEnv(Guess(ends_by="truncated"))
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step("edge")
    assert (terminated, truncated, info["lost"]) == (False, True, False)
    with pytest.raises(NotPlaying):
        env.step("edge")


def test_an_end_that_is_said_to_be_neither_won_nor_lost_is_none_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    neither = {"won": False, "lost": False}
    monkeypatch.setattr(Guess, "step", lambda *_: ("Time is over.", 0.0, True, False, neither))
    env = GymTextEnv(Guess())
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step("edge")
    assert (terminated, truncated, info["won"], info["lost"]) == (False, True, False, False)


@pytest.mark.parametrize(("env", "what"), [(Picture(), "observations"), (Lever(), "actions")])
def test_environments_without_text_are_refused(env, what: str) -> None:
    with pytest.raises(EnvironmentsError, match=what):
        GymTextEnv(env)


def test_a_wrapped_environment_keeps_the_contract() -> None:
    assert check(lambda: GymTextEnv(Numbered(tells=False))).ok


@pytest.mark.parametrize("limit", ["step_limit", "answer_limit"])
@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e999", "0", "-1", "soon"])
def test_a_limit_that_is_no_finite_number_above_zero_is_refused_in_one_line(limit: str, value: str) -> None:
    with pytest.raises(BadParameter, match=f"cannot have {limit}=") as told:
        make(f"gym/Guess-v0?{limit}={value}")
    assert "\n" not in str(told.value)


def test_an_episode_has_a_whole_number_of_actions() -> None:
    with pytest.raises(BadParameter, match="whole number"):
        make("gym/Guess-v0?step_limit=0.5")
    assert make("gym/Guess-v0?step_limit=4.0").step_limit == 4


def test_a_limit_may_be_longer_than_any_system_counts() -> None:
    env = make("gym/Guess-v0", answer_limit=10**400, step_limit=10**400)
    assert env.reset(seed=0)[0] and env.step_limit == 10**400
