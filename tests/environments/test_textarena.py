"""TextArena: games are the same for the same seed whoever plays beside, and a wrong move is answered."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from environments import EnvironmentDied, EnvironmentsError, MissingDependency, UnknownEnvironment, make
from environments import textarena as module
from environments.check import check

pytest.importorskip("textarena")

LISTED = ["2048-v0-3x3", "FrozenLake-v0-random", "Sokoban-v0", "Blackjack-v0", "LightsOut-v0"]


def play(game: str, seed: int) -> list[Any]:
    env = make(f"textarena/{game}?step_limit=8")
    rng = random.Random(seed)
    observation, info = env.reset(seed=seed)
    told: list[Any] = [(observation, info)]
    over = False
    while not over:
        told.append(env.step(rng.choice(info["admissible_commands"])))
        _, _, terminated, truncated, info = told[-1]
        over = terminated or truncated
    return told


@pytest.mark.parametrize("game", [*LISTED, "ThreeCardMonte-v0", "Secretary-v0"])
def test_the_contract_holds(game: str) -> None:
    few = game.startswith("Sokoban")  # whose rooms take a second or two each to make
    report = check(f"textarena/{game}?step_limit=12", episodes=1 if few else 2, starts=2 if few else 10)
    assert report.ok, report


def test_games_beside_each_other_draw_lots_of_their_own_and_leave_those_of_others_alone() -> None:
    alone = {game: play(game, 5) for game in LISTED}
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with ThreadPoolExecutor(4) as pool:
        again = dict(zip(LISTED, pool.map(lambda game: play(game, 5), LISTED), strict=True))
    assert again == alone
    assert (random.random(), np.random.random()) == expected


def test_a_puzzle_that_is_solved_is_won() -> None:
    env = make("textarena/TowerOfHanoi-v0")
    env.reset(seed=0)
    rewards = []
    for move in ("A C", "A B", "C B", "A C", "B A", "B C", "A C"):
        observation, reward, terminated, _, info = env.step(f"[{move}]")
        rewards.append(reward)
    assert terminated and info["won"] and info["score"] == 1 and sum(rewards) == 1
    assert observation


def test_a_game_whose_own_turns_are_over_is_neither_won_nor_lost() -> None:
    env = make("textarena/LightsOut-v0")
    env.reset(seed=0)
    for _ in range(40):
        *_, terminated, truncated, info = env.step("[0 0]")
        if terminated or truncated:
            break
    assert (terminated, truncated, info["won"], info["lost"]) == (False, True, False, False)


@pytest.mark.slow
def test_a_game_of_every_kind_that_is_offered_takes_a_move_or_says_what_it_lacks() -> None:
    for game in {name.partition("-v")[0]: name for name in reversed(module._ids())}.values():
        env = make(f"textarena/{game}")
        try:
            _, info = env.reset(seed=0)
        except EnvironmentsError as error:
            assert "nltk.downloader words" in str(error)
        else:
            env.step((info["admissible_commands"] or ["no move at all"])[0])
        env.close()


def test_a_move_that_cannot_be_made_is_answered_or_loses_as_one_wishes() -> None:
    kind, strict = make("textarena/TowerOfHanoi-v0"), make("textarena/TowerOfHanoi-v0?forgiving=0")
    for env in (kind, strict):
        env.reset(seed=0)
        told, _, terminated, _, info = env.step("[B A]")
        assert "invalid" in told and not terminated
    assert not kind.step("[B A]")[2] and not kind.step("no move at all")[2]
    _, reward, terminated, _, info = strict.step("[B A]")
    assert terminated and info["lost"] and info["score"] == 0 and reward <= 0


def test_the_rules_are_the_goal_and_a_game_without_a_list_takes_any_text() -> None:
    observation, info = make("textarena/Sudoku-v0-very-easy").reset(seed=0)
    assert "Sudoku" in info["goal"] and info["admissible_commands"] is None and info["goal"] not in observation


def test_what_cannot_be_played_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownEnvironment, match="Sokoban-v0"):
        make("textarena/Sokoban-v1")
    with pytest.raises(EnvironmentsError):
        make("textarena/Sokoban-v0?forgiving=3")
    with pytest.raises((EnvironmentsError, EnvironmentDied)):
        make("textarena/Chess-v0").reset(seed=0)  # it takes two
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="textarena"):
        make("textarena/Sokoban-v0")
