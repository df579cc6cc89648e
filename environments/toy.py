"""A small game in pure Python, so that everything can be tried without Java: `toy/doors`.

The player stands in the first of a few rooms. In each hangs a note that names the colour of the safe door; any other
door ends the game. Behind the last door lies a coin, and taking it wins. Five steps are needed with the notes read,
three with luck.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from environments.base import Split, Task, TextEnv, Turn
from environments.parameters import Game, Parameter

DESCRIPTION = "a small game of doors and notes in pure Python, for first steps and for tests"
GAMES = {
    "toy/doors": Game(
        "read the notes, open the safe doors, take the coin",
        {
            "colours": Parameter(3, 2, 6, "the number of doors in each room", size=True),
            "rooms": Parameter(2, 1, 6, "the number of rooms before the coin", size=True),
            "step_limit": Parameter(10, 1, 1000, "the number of actions an episode may have"),
        },
    )
}
COLOURS = ("black", "blue", "green", "red", "white", "yellow")
# Each fold has rooms of its own, so no game of one fold occurs in another.
ROOMS: dict[Split, tuple[str, ...]] = {
    "train": ("attic", "bathroom", "bedroom", "cellar", "corridor", "garage", "hall", "kitchen", "library", "pantry"),
    "dev": ("ballroom", "chapel", "dining room", "dungeon", "gallery", "nursery", "parlour", "study"),
    "test": ("armoury", "bakery", "barn", "greenhouse", "larder", "observatory", "stable", "workshop"),
}
GOAL = "Find the coin and take it. In each room only one door is safe, and a note tells which."


@dataclass(frozen=True)
class _Room:
    name: str
    doors: tuple[str, ...]
    safe: str


class Doors(TextEnv):
    """The game of doors. Wrong doors lose; the score is the part of the way that is done."""

    def __init__(self, env_id: str = "toy/doors", *, rooms: int = 2, colours: int = 3, step_limit: int = 10) -> None:
        super().__init__(env_id, step_limit)
        self.rooms = rooms
        self.colours = colours
        self._rooms: list[_Room] = []
        self._place = 0

    def begin(self, task: Task) -> Turn:
        rng = random.Random(f"doors {task.split} {task.seed}")
        names = rng.sample(ROOMS[task.split], self.rooms)
        self._rooms = []
        for name in names:
            doors = tuple(sorted(rng.sample(COLOURS, self.colours)))
            self._rooms.append(_Room(name, doors, rng.choice(doors)))
        self._place = 0
        return self._turn(self._look(), goal=GOAL)

    def act(self, action: str) -> Turn:
        if action == "look":
            return self._turn(self._look())
        if self._place == self.rooms:
            won = action == "take coin"
            return self._turn("You take the coin. You win!" if won else "Nothing happens.", won=won)
        room = self._rooms[self._place]
        if action == "read note":
            return self._turn(f"The note says: the {room.safe} door is safe.")
        verb, _, colour = action.removesuffix(" door").partition(" ")
        if verb != "open" or colour not in room.doors:
            return self._turn("Nothing happens.")
        if colour != room.safe:
            return self._turn(f"Behind the {colour} door the floor gives way. You lose.", lost=True)
        self._place += 1
        return self._turn(f"You open the {colour} door and walk through. {self._look()}")

    def _look(self) -> str:
        if self._place == self.rooms:
            return "You are in the treasury. You see a coin."
        room = self._rooms[self._place]
        return f"You are in the {room.name}. You see a note, {', '.join(f'a {door} door' for door in room.doors)}."

    def _turn(self, observation: str, *, won: bool = False, lost: bool = False, goal: str = "") -> Turn:
        admissible = ["look"]
        if self._place < self.rooms:
            admissible += ["read note", *(f"open {door} door" for door in self._rooms[self._place].doors)]
        else:
            admissible.append("take coin")
        score = 1.0 if won else self._place / (self.rooms + 1)
        state = f"{self._look()}\nScore: {score:.2f}"
        return Turn(observation, admissible, score, won, lost, state, goal)


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    return Doors(GAMES[name].canonical(name, parameters), **parameters)


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return None
