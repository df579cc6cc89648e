"""The small games of gymnasium's toy_text, told in words: `toytext/frozenlake`, `toytext/taxi`, `toytext/blackjack`."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium
import gymnasium.spaces

from environments.base import AnyText, TextEnv
from environments.folds import belongs
from environments.gym import GymTextEnv, fold_of
from environments.parameters import Game, Parameter

DESCRIPTION = "gymnasium's toy_text in words: a frozen lake, a taxi, blackjack"


def _limit(steps: int) -> Parameter:
    return Parameter(steps, 1, 10_000, "the number of actions an episode may have")


GAMES = {
    "toytext/frozenlake": Game(
        "cross a frozen lake to the goal without falling into a hole; the lake is made from the seed",
        {
            "size": Parameter(4, 4, 20, "the number of rows, and of columns", size=True),
            "slippery": Parameter(0, 0, 1, "whether one may slip to the side (1), as in gymnasium, or not (0)"),
            "step_limit": _limit(100),
        },
    ),
    "toytext/taxi": Game(
        "drive to a passenger, pick them up, drive to where they want to go, drop them off", {"step_limit": _limit(50)}
    ),
    "toytext/blackjack": Game("take cards, come closer to 21 than the dealer, not above", {"step_limit": _limit(20)}),
}
_WAYS = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
_GROUND = {"S": "ice", "F": "ice", "H": "a hole", "G": "the goal"}
_STANDS = ("red", "green", "yellow", "blue")


class _InWords(gymnasium.Env[str, Any]):
    """A numbered game whose observations are words."""

    names: tuple[str, ...]
    goal: str
    few = True  # whether the first sight is the whole game, and there are so few that folds would share some

    def __init__(self) -> None:
        self.observation_space = AnyText()
        self.action_space = gymnasium.spaces.Discrete(len(self.names))
        self.inner: Any = None

    @abstractmethod
    def made(self, seed: int | None) -> gymnasium.Env[Any, Any]:
        """The game of a seed, which may be the one that was played before: it is reset."""

    @abstractmethod
    def told(self, observation: Any) -> str:
        """An observation in words."""

    def result(self, reward: float, ended: bool) -> dict[str, Any]:
        """What is told of how it went: `won`, `lost`, `score`."""
        won = ended and reward > 0
        return {"won": won, "lost": ended and not won, "score": float(won)}

    def offered(self, info: Mapping[str, Any]) -> list[int]:
        """What can be done now."""
        return list(range(len(self.names)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        # The first game of the seed's that belongs to its fold.
        lots = random.Random(seed)
        while True:
            drawn = lots.randrange(2**31)
            self.inner = self.made(drawn)
            observation, info = self.inner.reset(seed=drawn)
            if not self.few or belongs(self.told(observation), fold_of(seed or 0)[0]):
                break
        told = self.told(observation)
        offered = self.offered(info)
        return told, {"admissible_commands": offered, **self.result(0.0, False)}

    def step(self, action: int) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, ended, _, info = self.inner.step(action)
        told, result = self.told(observation), self.result(float(reward), bool(ended))
        return told, float(reward), bool(ended), False, {"admissible_commands": self.offered(info), **result}

    def close(self) -> None:
        if self.inner is not None:
            self.inner.close()


class FrozenLake(_InWords):
    """A lake that is made from the seed."""

    names = tuple(f"go {way}" for way in _WAYS)
    goal = "Cross the frozen lake to the goal. Do not fall into a hole."

    def __init__(self, size: int, slippery: bool) -> None:
        super().__init__()
        self._size, self._slippery = size, slippery

    def made(self, seed: int | None) -> gymnasium.Env[Any, Any]:
        from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map

        return FrozenLakeEnv(desc=generate_random_map(self._size, seed=seed), is_slippery=self._slippery)

    def told(self, observation: Any) -> str:
        row, column = divmod(int(observation), self._size)
        lake = self.inner.desc
        beside = []
        for way, (down, right) in _WAYS.items():
            there = (row + down, column + right)
            inside = all(0 <= one < self._size for one in there)
            beside.append(f"{way} {_GROUND[lake[there].decode()] if inside else 'the shore'}")
        last = self._size - 1
        here = _GROUND[lake[row, column].decode()]
        rows = [", ".join(_GROUND[ground.decode()].removeprefix("a ") for ground in one) for one in lake]
        return (
            f"You are in row {row + 1}, column {column + 1}, on {here}. Around: {', '.join(beside)}. The goal is "
            f"{last - row} down, {last - column} right.\n"
        ) + " ".join(f"Row {number}: {one}." for number, one in enumerate(rows, 1))


class Taxi(_InWords):
    """The taxi. It is won when the passenger is where they want to be."""

    names = ("go south", "go north", "go east", "go west", "pick up", "drop off")
    goal = "Drive to the passenger, pick them up, drive to where they want to go, and drop them off."

    def made(self, seed: int | None) -> gymnasium.Env[Any, Any]:
        from gymnasium.envs.toy_text.taxi import TaxiEnv

        return self.inner or TaxiEnv()  # which works out anew all that can happen whenever one is made

    def told(self, observation: Any) -> str:
        at_row, at_column, passenger, wanted = self.inner.decode(int(observation))
        places = zip(_STANDS, self.inner.locs, strict=True)
        stands = [f"{name} stand (row {row + 1}, column {column + 1})" for name, (row, column) in places]
        where = "in the taxi" if passenger == len(_STANDS) else f"at the {stands[passenger]}"
        mask = self.inner.action_mask(int(observation))
        ways = ", ".join(
            name.removeprefix("go ") for name, can in zip(self.names, mask, strict=True) if can and "go" in name
        )
        return (
            f"The taxi is in row {at_row + 1}, column {at_column + 1}. The passenger is {where} and wants to go to the "
            f"{stands[wanted]}. Open ways: {ways}."
        )

    def offered(self, info: Mapping[str, Any]) -> list[int]:
        return [number for number, can in enumerate(info["action_mask"]) if can]


class Blackjack(_InWords):
    """Blackjack. A draw is no win, and has half the score."""

    names = ("stick", "hit")
    few = False
    goal = "Come closer to 21 than the dealer, and not above: hit takes a card, stick ends your turn."

    def made(self, seed: int | None) -> gymnasium.Env[Any, Any]:
        from gymnasium.envs.toy_text.blackjack import BlackjackEnv

        return BlackjackEnv()

    def told(self, observation: Any) -> str:
        total, dealer, ace = (int(one) for one in observation)
        return f"You have {total}{' with an ace that counts 11' if ace else ''}. The dealer shows {dealer}."

    def result(self, reward: float, ended: bool) -> dict[str, Any]:
        drawn = 0.5 if ended and reward == 0 else 0.0
        return {**super().result(reward, ended), **({"score": drawn} if drawn else {})}


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    game: _InWords
    if name == "toytext/frozenlake":
        game = FrozenLake(parameters["size"], bool(parameters["slippery"]))
    else:
        game = Taxi() if name == "toytext/taxi" else Blackjack()
    return GymTextEnv(
        game,
        env_id=GAMES[name].canonical(name, parameters),
        step_limit=parameters["step_limit"],
        action_names=game.names,
        goal=game.goal,
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return None
