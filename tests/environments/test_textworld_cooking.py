"""TextWorld's cooking games: TextWorld's own solution wins, what spoils the meal loses, and folds have other foods."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from environments import BadParameter, make
from environments import textworld_cooking as module
from environments.check import check

HARD = "tw/cooking?cook=1,cut=1,drop=1,go=6,open=1,recipe=3,take=3"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module._game.cache_clear()


def solved(env: Any, split: str, seed: int) -> tuple[list[str], dict[str, Any]]:
    """What is told while TextWorld's own solution is played, and how it ended."""
    _, info = env.reset(seed=seed, options={"split": split})
    told = []
    for action in env._game.metadata["walkthrough"]:
        if action in info["admissible_commands"]:  # TextWorld opens again what is open
            observation, _, terminated, _, info = env.step(action)
            told.append(observation)
            if terminated:
                break
    return told, info


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("env_id", ["tw/cooking", "tw/cooking?cook=1,cut=1", HARD, "tw/cooking?go=12,open=1"])
def test_textworlds_own_solution_wins(env_id: str, split: str) -> None:
    for seed in range(2):
        _, info = solved(make(env_id), split, seed)
        assert info["won"] and info["score"] == 1.0


def test_the_text_tells_the_recipe_and_what_was_done_to_its_ingredients() -> None:
    env = make("tw/cooking?cook=1,cut=1")
    told, _ = solved(env, "train", 0)
    text = " ".join(told)
    ((name, cooking, cutting),) = env._game.metadata["ingredients"]
    verbs = {**module._CUT, **module._COOK}
    assert (
        f"Ingredients: {name}. Directions: {verbs[cutting]} the {name}, {verbs[cooking]} the {name}, prepare meal."
        in text
    )
    assert f"{cooking} {cutting} {name}." in text
    assert "You prepare meal." in text


def test_an_ingredient_that_is_eaten_or_burned_loses() -> None:
    env = make("tw/cooking?cook=1,take=0")
    _, info = env.reset(seed=1)
    ((name, *_),) = env._game.metadata["ingredients"]
    assert name in env.step("inventory")[0]
    while not info["lost"]:  # the second time it burns, if the first was the recipe's way
        told, *_, info = env.step(f"cook {name} with stove")
    assert not info["won"] and f"{name}." in told
    env = make("tw/cooking?take=0")
    env.reset(seed=2)
    ((name, *_),) = env._game.metadata["ingredients"]
    *_, terminated, _, info = env.step(f"eat {name}")
    assert terminated and info["lost"] and info["score"] == 0


def test_a_meal_needs_all_ingredients_of_its_recipe_as_it_says() -> None:
    env = make("tw/cooking?cook=1,cut=1,recipe=2,take=2")
    for seed in range(3):
        _, info = env.reset(seed=seed)
        refused = list[str]()
        for action in env._game.metadata["walkthrough"]:
            if action not in info["admissible_commands"]:
                continue
            if "prepare meal" in info["admissible_commands"] and action != "prepare meal":
                score = info["score"]
                told, *_, info = env.step("prepare meal")
                if told.startswith("You prepare"):
                    break
                assert info["score"] == score and "eat meal" not in info["admissible_commands"]
                refused.append(told)
            *_, info = env.step(action)
        assert "eat meal" in info["admissible_commands"] and env.step("eat meal")[4]["won"]
        assert {"Something still needs to be cooked.", "Something still needs to be cut."} <= {*refused}


def test_a_meal_of_half_of_its_ingredients_is_none() -> None:
    env = make("tw/cooking?recipe=2,take=2")
    _, info = env.reset(seed=0)
    taken = next(one for one in env._game.metadata["walkthrough"] if one.startswith("take "))
    *_, info = env.step(taken)
    assert "prepare meal" in info["admissible_commands"], "as in TextWorld"
    told, *_, again = env.step("prepare meal")
    assert told == "You still miss something." and again["score"] == info["score"]
    assert "eat meal" not in again["admissible_commands"]


def test_what_stands_on_the_stove_is_seen() -> None:
    env = make("tw/cooking?cook=1,take=0")
    env.reset(seed=1)
    ((name, *_),) = env._game.metadata["ingredients"]
    env.step(f"put {name} on stove")
    assert f"{name})" in env.step("look")[0].partition("a stove (")[2]


def test_dev_and_test_games_are_prepared_otherwise_than_train_games() -> None:
    def ways(split: str) -> set[tuple[str, ...]]:
        env = make("tw/cooking?cook=1,cut=1,recipe=3")
        found = set()
        for seed in range(5):
            env.reset(seed=seed, options={"split": split})
            found |= {tuple(one) for one in env._game.metadata["ingredients"]}
        return found

    train, dev, test = (ways(split) for split in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test


@pytest.mark.parametrize(
    ("env_id", "complaint"),
    [
        ("tw/cooking?go=3", "1, 6, 9, 12"),
        ("tw/cooking?take=2", "of 1 ingredients"),
        ("tw/cooking?cut=1,go=9", "need cook=1"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_in_a_line(env_id: str, complaint: str) -> None:
    with pytest.raises(BadParameter, match=complaint) as refused:
        make(env_id)
    assert "\n" not in str(refused.value)


def test_it_keeps_the_contract() -> None:
    report = check("tw/cooking?cook=1,cut=1", starts=4, episodes=2)
    assert report.ok, str(report)


def test_a_game_is_the_same_from_the_generator_from_the_cache_and_in_another_process(tmp_path: Path) -> None:
    env = make(HARD)
    generated, again = solved(env, "train", 3), None
    module._game.cache_clear()
    again = solved(env, "train", 3)
    assert again == generated
    code = f"from environments import make; print(make({HARD!r}).reset(seed=3))"
    told = set()
    for seed in ("1", "2"):
        settings = {"PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(tmp_path / seed), "PYTHONPATH": ".", "PATH": ""}
        told.add(subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True).stdout)
    assert len(told) == 1 and told != {""}
