"""The games of ALFWorld (Shridhar et al. 2021): `alfworld/pick_and_place_simple` and others, from one's own copy.

The games are a download of their own, in the folder that `ALFWORLD_DATA` names. Train games are ALFWorld's own; dev is
its `valid_seen` (rooms of the train games), test its `valid_unseen` (rooms of their own). The words of a game are in
its file: games made before ALFWorld 0.4 say `put X in/on Y`, later ones `move X to Y`.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from environments.alfworld_planner import Planner
from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentDied, EnvironmentsError, MissingDependency
from environments.parameters import Game, Parameter
from environments.textworld_game import why_not as textworld_missing

DESCRIPTION = "ALFWorld: six kinds of chores in rooms of a household (its games are a download: ALFWORLD_DATA)"
DATA = "ALFWORLD_DATA"
"""The environment variable with the folder of the games, as `alfworld-download` makes it."""
_PARAMETERS = {"step_limit": Parameter(50, 1, 10_000, "the number of actions an episode may have")}
GAMES = {
    "alfworld/pick_and_place_simple": Game("find a thing and put it where it is wanted", _PARAMETERS),
    "alfworld/look_at_obj_in_light": Game("find a thing and look at it under a lamp", _PARAMETERS),
    "alfworld/pick_clean_then_place_in_recep": Game("find a thing, clean it, put it where it is wanted", _PARAMETERS),
    "alfworld/pick_heat_then_place_in_recep": Game("find a thing, heat it, put it where it is wanted", _PARAMETERS),
    "alfworld/pick_cool_then_place_in_recep": Game("find a thing, cool it, put it where it is wanted", _PARAMETERS),
    "alfworld/pick_two_obj_and_place": Game(
        "find two things of a kind and put them where they are wanted", _PARAMETERS
    ),
    "alfworld/any": Game("any of the six, as they come", _PARAMETERS),
}
_FOLDERS: dict[Split, str] = {"train": "train", "dev": "valid_seen", "test": "valid_unseen"}
_TASK = "Your task is to:"


class AlfworldEnv(TextEnv):
    """A game of ALFWorld, in a process of its own (about 100 MB). It is won or not, and cannot be lost but by time.

    Args:
        env_id: the id under which the registry made it.
        kind: the kind of task, or `any`.
        step_limit: the number of actions an episode may have.
    """

    def __init__(self, env_id: str, kind: str, *, step_limit: int = 50) -> None:
        super().__init__(env_id, step_limit)
        reason = why_not()
        if reason:
            raise MissingDependency(reason)
        self._kind = kind
        self._planner: Planner | None = None

    def seeds(self, split: Split) -> Sequence[int]:
        return range(len(self._files(split)))

    def begin(self, task: Task) -> Turn:
        file = self._files(task.split)[task.seed]
        if self._planner is None or not self._planner.alive:
            self.close()  # it died when nothing was played, so nothing is lost
            self._planner = Planner()
        told = self._planner.begin(file)
        seen, _, goal = told["seen"].partition(_TASK)
        return self._turn({**told, "seen": seen.rpartition("=-")[2]}, f"{_TASK}{goal}")

    def act(self, action: str) -> Turn:
        if self._planner is None:
            raise EnvironmentDied(f"{self.env_id} was closed in the middle of a game; reset begins another")
        return self._turn(self._planner.act(action))

    def close(self) -> None:
        if self._planner is not None:
            self._planner.close()
            self._planner = None

    def _turn(self, told: Mapping[str, Any], goal: str = "") -> Turn:
        commands = [command for command in told["commands"] if command != "help"]
        text, won = " ".join(told["seen"].split()), told["won"]
        return Turn(text, commands, float(won), won, False, told["situation"], " ".join(goal.split()))

    def _files(self, split: Split) -> list[Path]:
        folder = data_folder()
        if folder is None:  # it was there when the environment was made
            raise EnvironmentsError(f"the games are gone; {_where()}")
        return _games(folder / _FOLDERS[split], self._kind)


@lru_cache(maxsize=64)
def _games(folder: Path, kind: str) -> list[Path]:
    """The games of a fold that can be solved, sorted by their paths."""
    found = []
    for file in sorted(folder.rglob("game.tw-pddl")):
        task = file.parents[1].name.partition("-")[0]
        if kind not in ("any", task) or "movable" in str(file.parent.parent.name) or "Sliced" in file.parents[1].name:
            continue
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, RecursionError, ValueError):
            continue  # a download that was cut
        if isinstance(told, dict) and told.get("solvable"):
            found.append(file)
    return found


def data_folder() -> Path | None:
    """The folder with the folds, if `ALFWORLD_DATA` names one that has them."""
    given = os.environ.get(DATA, "")
    for folder in (Path(given) / "json_2.1.1", Path(given)) if given else ():
        if all((folder / name).is_dir() for name in _FOLDERS.values()):
            return folder
    return None


def _where() -> str:
    return (
        f"set {DATA} to the folder that `alfworld-download` has made (with json_2.1.1 in it: train, valid_seen, "
        "valid_unseen)"
    )


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    return AlfworldEnv(
        GAMES[name].canonical(name, parameters), name.removeprefix("alfworld/"), step_limit=parameters["step_limit"]
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    missing = textworld_missing()
    if missing:
        return missing
    if importlib.util.find_spec("fast_downward") is None:
        return (
            "the planner of ALFWorld's games is missing; install it with `pip install fast-downward-textworld` in an "
            "activated environment, which compiles it in two minutes (it needs cmake and g++)"
        )
    return None if data_folder() else f"ALFWorld's games are not here; {_where()}"
