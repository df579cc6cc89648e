"""gymnasium's toy_text in words: what is told is what is, and whoever reads it can win."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import pytest

from environments import make
from environments.check import check
from environments.toy_text import GAMES


@pytest.mark.parametrize("name", GAMES)
def test_the_contract_holds(name: str) -> None:
    report = check(name)
    assert report.ok, report


def test_who_goes_by_what_is_told_of_the_lake_crosses_it() -> None:
    env = make("toytext/frozenlake?size=6")
    for seed in range(5):
        told, info = env.reset(seed=seed)
        # Walk only onto what is told to be ice or the goal, going back where there is no other way.
        seen, path = set[str](), list[str]()
        back = {"left": "right", "right": "left", "up": "down", "down": "up"}
        while not info["won"]:
            here = told.partition(".")[0]
            seen.add(here)
            row, column = (int(number) for number in re.findall(r"\d+", here))
            around = dict(re.findall(r"(left|down|right|up) ([a-z ]+)[,.]", told.partition("Around")[2]))
            ahead = {
                "left": (row, column - 1),
                "right": (row, column + 1),
                "up": (row - 1, column),
                "down": (row + 1, column),
            }
            fresh = [
                way
                for way, ground in around.items()
                if ground in ("ice", "the goal")
                and not any(f"row {ahead[way][0]}, column {ahead[way][1]}," in one for one in seen)
            ]
            way = fresh[0] if fresh else back[path.pop()]
            if fresh:
                path.append(way)
            told, reward, terminated, _, info = env.step(f"go {way}")
            assert not info["lost"]
        assert reward == 1 and terminated and "The goal is 0 down, 0 right" in told


def drive(env: Any, told: str, info: Any, target: tuple[int, int]) -> tuple[str, Any]:
    """Drive to `target` the shortest way: each of its ways must have been told, and offered."""
    taxi = env.env.inner
    queue, known = deque([(taxi.s, list[str]())]), {taxi.s}
    while True:
        state, path = queue.popleft()
        row, column, *_ = taxi.decode(state)
        if (row + 1, column + 1) == target:
            break
        for number, way in enumerate(("south", "north", "east", "west")):
            after = taxi.P[state][number][0][1]
            if after not in known:
                known.add(after)
                queue.append((after, [*path, way]))
    for way in path:
        assert f"go {way}" in info["admissible_commands"] and way in told.rpartition("Open ways: ")[2]
        told, _, _, _, info = env.step(f"go {way}")
    return told, info


def test_the_taxi_brings_its_passenger_by_what_is_told() -> None:
    env = make("toytext/taxi?step_limit=200")
    for seed in range(5):
        told, info = env.reset(seed=seed)

        stands = re.findall(r"stand \(row (\d), column (\d)\)", told)
        told, info = drive(env, told, info, (int(stands[0][0]), int(stands[0][1])))
        assert "pick up" in info["admissible_commands"]
        told, _, _, _, info = env.step("pick up")
        assert "The passenger is in the taxi" in told
        told, info = drive(env, told, info, (int(stands[1][0]), int(stands[1][1])))
        *_, terminated, _, info = env.step("drop off")
        assert terminated and info["won"] and info["score"] == 1


def test_blackjack_tells_the_cards_and_a_draw_is_half() -> None:
    env = make("toytext/blackjack")
    scores = set()
    for seed in range(60):
        told, info = env.reset(seed=seed)
        while not (info["won"] or info["lost"]):
            total = int(re.findall(r"You have (\d+)", told)[0])
            told, reward, _, _, info = env.step("hit" if total < 17 else "stick")
        scores.add((info["score"], info["won"], reward))
    assert scores == {(0.0, False, -1.0), (0.5, False, 0.0), (1.0, True, 1.0)}


def test_a_command_that_does_not_exist_changes_nothing() -> None:
    env = make("toytext/frozenlake")
    _, before = env.reset(seed=0)
    observation, reward, *_, info = env.step("swim")
    assert "There is no action `swim`" in observation and reward == 0 and info["state"] == before["state"]
