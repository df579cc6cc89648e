from __future__ import annotations

import random

import pytest

from environments import make


def follow_the_notes(env, seed: int, split: str = "train") -> list[str]:
    observation, info = env.reset(seed=seed, options={"split": split})
    actions: list[str] = []
    over = False
    while not over:
        if "take coin" in info["admissible_commands"]:
            action = "take coin"
        elif actions and actions[-1] == "read note":
            action = f"open {observation.removeprefix('The note says: the ').split()[0]} door"
        else:
            action = "read note"
        actions.append(action)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    assert info["won"] and info["score"] == 1
    return actions


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_who_reads_the_notes_wins_in_five_steps(split: str) -> None:
    env = make("toy/doors")
    assert all(len(follow_the_notes(env, seed, split)) == 5 for seed in range(20))


def test_more_rooms_are_a_longer_way() -> None:
    assert len(follow_the_notes(make("toy/doors", rooms=4), 0)) == 9


def test_a_wrong_door_loses() -> None:
    env = make("toy/doors")
    _, info = env.reset(seed=0)
    safe = env.step("read note")[0].split()[4]
    wrong = next(a for a in info["admissible_commands"] if a.startswith("open") and safe not in a)
    _, _, terminated, _, info = env.step(wrong)
    assert terminated and info["lost"] and not info["won"]


def test_what_makes_no_sense_changes_nothing() -> None:
    env = make("toy/doors?rooms=1")
    _, info = env.reset(seed=0)
    state = info["state"]
    for action in ("dance", "open pink door", "take coin"):
        observation, *_, info = env.step(action)
        assert (observation, info["state"]) == ("Nothing happens.", state)
    safe = env.step("read note")[0].split()[4]
    env.step(f"open {safe} door")
    assert env.step("dance")[0] == "Nothing happens."
    assert env.step("look")[0].startswith("You are in the treasury")


def test_a_random_player_rarely_wins() -> None:
    env, rng, won = make("toy/doors"), random.Random(0), 0
    for seed in range(200):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(rng.choice(info["admissible_commands"]))
            over = terminated or truncated
        won += info["won"]
    assert 5 <= won <= 50
