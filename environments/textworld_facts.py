"""The process in which one's own `.json` is played, by TextWorld's logic: a file may keep that busy for ever.

In the program itself it would hold up every other game of TextWorld, since these are made one at a time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from environments.base import Split, Task, Turn
from environments.child import Child, Told, serve
from environments.textworld_cooking import MealEnv
from environments.textworld_game import hashable, textworld, writer
from environments.worker import format_error

_TURN = {
    "observation": str, "admissible": list, "score": float, "won": bool, "lost": bool, "state": str, "goal": str,
}  # fmt: skip
_WON, _LOST = "*** The End ***", "*** You lost! ***"
# What a game of TextWorld says of itself: what happened, and its points.
_EVENT = re.compile(r"\[([^\[\]()]+?) - succeeded\]")
_POINTS = re.compile(r"<score>\s*(-?\d+)")
_ID = "tw/own"


class Facts(Child):
    """A process that plays games of `.json`, one after the other. Raises EnvironmentDied if it cannot be started."""

    def __init__(self) -> None:
        super().__init__(__name__, "game", _TURN, "{file} is no game of TextWorld ({why}); is it damaged?")

    def follow(self, file: Path) -> Told:
        """As `begin`, where a story plays the game and this is told what it says."""
        return self.ask("follow", str(file))

    def hear(self, said: str) -> Told:
        """What has come of a command, from what the story has said to it. Raises EnvironmentDied."""
        return self.ask("hear", said)


# In the process


class _Game(MealEnv):
    """A game told from the facts of its state."""

    def __init__(self, game: Any) -> None:
        super().__init__(_ID, 1)
        self._own = game

    def generated(self, split: Split, seed: int) -> Any:
        return self._own


class _Followed(_Game):
    """A game whose state follows from what a story says has happened."""

    _said, _points = "", 0

    def hear(self, said: str) -> Turn:
        self._said = said
        points = _POINTS.search(said)
        self._points = int(points[1]) if points else self._points
        for event in _EVENT.findall(said):
            done = writer(self._game).detect_action(event, self._progress.valid_actions)
            if done is not None:
                self._progress.update(done)
        self._offer()
        return self._turn("")

    def _standing(self) -> tuple[int, bool, bool]:
        return self._points, _WON in self._said, _LOST in self._said


def loaded(file: str) -> Any:
    """The game of a file that TextWorld has written; raises whatever TextWorld does where it is none."""
    return hashable(textworld().Game.deserialize(json.loads(Path(file).read_text(encoding="utf-8"))))


def play() -> None:
    """Play what is asked for on the standard input, until that ends."""
    game: Any = None

    def begin(file: str, kind: type[_Game] = _Game) -> Told:
        nonlocal game
        try:
            game = kind(loaded(file))
            return told(game.begin(Task(env=_ID, split="train", seed=0)))
        except Exception as error:  # it fails wherever something else stands in the file than TextWorld has written
            return {"no game": format_error(error) or type(error).__name__}

    serve(
        begin=begin,
        act=lambda action: told(game.act(action)),
        follow=lambda file: begin(file, _Followed),
        hear=lambda said: told(game.hear(said)),
    )


def told(turn: Turn) -> Told:
    """A turn as it is sent."""
    return {**turn._asdict(), "admissible": sorted(turn.admissible or ())}
