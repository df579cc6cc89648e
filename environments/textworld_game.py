"""What TextWorld's games (Côté et al. 2018) share here: the state is TextWorld's, the text is written from its facts.

TextWorld can tell a game's text only through a Z-machine, which has to be compiled; so the text here is written from
the facts of the state, short and complete. (`textworld_files` plays what was compiled.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
import types
import warnings
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from environments.base import Split, Task, TextEnv, Turn
from environments.errors import BadParameter, MissingDependency

REMEDY = (
    "install it with `pip install --no-deps textworld==1.7.0` (its dependency jericho is not needed and would be "
    "compiled), then `pip install tatsu==5.8.3 hashids mementos networkx more_itertools termcolor prompt_toolkit tqdm`"
)
SEEDS_PER_FOLD = 10_000
_FIRST_SEED: dict[Split, int] = {"train": 0, "dev": 100_000, "test": 200_000}
_DIRECTIONS = ("north", "east", "south", "west")
_IMPORTS = ("textworld", "tatsu", "hashids", "mementos", "networkx", "more_itertools", "termcolor", "prompt_toolkit")
_PREPARED = ("raw", "fried", "roasted", "grilled", "burned", "chopped", "sliced", "diced")
# TextWorld keeps its grammars and its random numbers in module globals.
_generating = threading.RLock()


class TextWorldEnv(TextEnv):
    """A game of TextWorld. The score is the share of its points; where it can be lost, that is by what one does.

    Args:
        env_id: the id under which the registry made it.
        step_limit: the number of actions an episode may have.
    """

    def __init__(self, env_id: str, step_limit: int) -> None:
        super().__init__(env_id, step_limit)
        reason = why_not()
        if reason:
            raise MissingDependency(reason)
        self._game: Any = None
        self._progress: Any = None
        self._commands: dict[str, Any] = {}

    @abstractmethod
    def generated(self, split: Split, seed: int) -> Any:
        """The game of a seed that no other fold has. Raises whatever TextWorld does if it cannot be made."""

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        with _generating:
            try:
                self._game = self.generated(task.split, _FIRST_SEED[task.split] + task.seed)
            except Exception as error:  # TextWorld raises what it likes when a wish cannot be met
                what = " ".join(str(error).split()) or type(error).__name__
                raise BadParameter(f"{self.env_id} cannot make {task.id}; {what}; change the parameters") from error
            self._progress = textworld().generator.game.GameProgression(self._game, track_quests=True)
            self._offer()
        return self._turn(self._scene().look(), goal=" ".join(self._game.objective.split()))

    def act(self, action: str) -> Turn:
        command = action.strip()
        if command == "look":
            return self._turn(self._scene().look())
        if command == "inventory":
            return self._turn(self._scene().inventory())
        verb, _, rest = command.partition(" ")
        if command not in self._commands:
            return self._turn("You can't do that.")
        if verb == "examine":
            return self._turn(self.examined(rest))
        self._progress.update(self._commands[command])
        self._offer()
        if verb == "go":
            return self._turn(self._scene().look())
        return self._turn(" ".join(part for part in (f"You {command}.", self.outcome(verb, rest)) if part))

    def examined(self, name: str) -> str:
        """What is seen of a thing."""
        return self._scene().examine(name)

    def outcome(self, verb: str, rest: str) -> str:
        """What is seen after a command was carried out."""
        return self._scene().examine(rest) if verb == "open" else ""

    def _offer(self) -> None:
        actions = self._progress.valid_actions
        self._commands = dict(zip(writer(self._game).gen_commands_from_actions(actions), actions, strict=True))

    def _scene(self) -> Scene:
        return Scene(self._game, self._progress.state.facts)

    def _turn(self, observation: str, goal: str = "") -> Turn:
        points, won, lost = self._standing()
        score = 1.0 if won else max(0.0, points / max(1, self._game.max_score))
        scene = self._scene()
        state = f"{scene.look()}\n{scene.inventory()}\nScore: {score:.2f}"
        return Turn(observation, {*self._commands, "look", "inventory"}, score, won, lost and not won, state, goal)

    def _standing(self) -> tuple[int, bool, bool]:
        """The points that were made, whether it is won, and whether it is lost."""
        progress = self._progress
        return progress.score, bool(progress.completed), bool(progress.failed)


class Scene:
    """What the player can see, from the facts of a state."""

    def __init__(self, game: Any, facts: Any) -> None:
        self._names = {key: info.name for key, info in game.infos.items() if info.name}
        self._place = ""
        self._inside: dict[str, list[str]] = defaultdict(list)
        self._is: dict[str, str] = {}
        self._exits: dict[str, dict[str, str]] = defaultdict(dict)
        self._doors: dict[tuple[str, str], str] = {}
        self._prepared: dict[str, set[str]] = defaultdict(set)
        for fact in facts:
            names = [variable.name for variable in fact.arguments]
            if fact.name == "at" and names[0] == "P":
                self._place = names[1]
            elif fact.name in ("at", "in", "on"):
                self._inside[names[1]].append(names[0])
            elif fact.name in ("open", "closed", "locked"):
                self._is[names[0]] = fact.name
            elif fact.name in _PREPARED:
                self._prepared[names[0]].add(fact.name)
            elif fact.name == "needs_cooking":
                self._prepared[names[0]].add("raw")
            elif fact.name == "link":
                self._doors[names[0], names[2]] = names[1]
            elif fact.name.endswith("_of") and fact.name.removesuffix("_of") in _DIRECTIONS:
                self._exits[names[1]][fact.name.removesuffix("_of")] = names[0]
        kinds = {kind for one in ("c", "s") for kind in (one, *game.kb.types.descendants(one))}
        self._holders = {key for key, info in game.infos.items() if info.type in kinds}

    def look(self) -> str:
        things = [self._thing(key) for key in self._sorted(self._inside[self._place])]
        seen = f" You see {', '.join(things)}." if things else ""
        exits = [self._exit(direction) for direction in _DIRECTIONS if direction in self._exits[self._place]]
        ways = f" Exits: {', '.join(exits)}." if exits else ""
        return f"You are in the {self._names[self._place]}.{seen}{ways}"

    def inventory(self) -> str:
        held = [self._named(key) for key in self._sorted(self._inside["I"])]
        return f"Inventory: {', '.join(held) or 'empty'}."

    def examine(self, name: str) -> str:
        for key in self._names:
            if self._names[key] == name and key in {*self._is, *self._holders, *self._prepared}:
                return f"You see {self._thing(key)}."
        return f"You see nothing special about the {name}."

    def _sorted(self, keys: list[str]) -> list[str]:
        return sorted(keys, key=lambda key: self._names[key])

    def _named(self, key: str) -> str:
        name = " ".join([*(one for one in _PREPARED if one in self._prepared.get(key, ())), self._names[key]])
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

    def _thing(self, key: str) -> str:
        state = self._is.get(key, "")
        name = f"{'an' if state == 'open' else 'a'} {state} {self._names[key]}" if state else self._named(key)
        if state in ("closed", "locked") or key not in self._holders:
            return name
        held = ", ".join(self._named(inner) for inner in self._sorted(self._inside[key]))
        return f"{name} ({held or 'empty'})"

    def _exit(self, direction: str) -> str:
        door = self._doors.get((self._place, self._exits[self._place][direction]))
        return f"{direction} ({self._thing(door)})" if door else direction


def stored(name: str, generate: Callable[[Any], Any]) -> Any:
    """The game of a name: from the cache on disk, or generated with TextWorld and put there."""
    made = textworld()
    path = cache_folder() / f"{made.__version__}-{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        return made.Game.load(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a grammar has few words for a room
        game = generate(made)
    with contextlib.suppress(OSError):  # the cache only saves time
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        game.save(str(beside))
        beside.replace(path)
    return game


def hashable(game: Any) -> Any:
    """The game without the synonyms of its things: a list, which cannot be hashed as TextWorld itself asks for."""
    for info in game.infos.values():
        info.synonyms = None
    return game


@lru_cache(maxsize=512)
def writer(game: Any) -> Any:
    """What writes and reads the commands and events of a game."""
    return sys.modules["textworld.generator.inform7"].Inform7Game(game)


def cache_folder() -> Path:
    """Where generated games are kept; they can be deleted at any time."""
    from platformdirs import user_cache_path

    return user_cache_path("agentlab") / "textworld"


@contextlib.contextmanager
def _without_jericho() -> Iterator[None]:
    """TextWorld imports jericho for Z-machine games, which it does not play here; an empty module will do."""
    if importlib.util.find_spec("jericho") is not None:
        yield
        return
    empty = types.ModuleType("jericho")
    for name in ("UnsupportedGameWarning", "TruncatedInputActionWarning"):
        setattr(empty, name, type(name, (UserWarning,), {}))
    sys.modules["jericho"] = empty
    try:
        yield
    finally:
        del sys.modules["jericho"]


@lru_cache(maxsize=1)
def textworld() -> Any:
    """TextWorld, loaded. Raises MissingDependency."""
    with _generating, _without_jericho(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import textworld
            import textworld.generator
        except ImportError as error:
            raise MissingDependency(why_not() or f"TextWorld cannot be loaded ({error}); {REMEDY}") from error
    return textworld


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    missing = [name for name in _IMPORTS if importlib.util.find_spec(name) is None]
    return f"TextWorld lacks {', '.join(missing)}; the tw games need it; {REMEDY}" if missing else None
