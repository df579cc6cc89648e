"""The games of TextArena (Guertler et al. 2025) for one player: `textarena/Sokoban-v0` and others.

Actions are free text in square brackets, `[up]`; small games list theirs. How well it went is said at the end alone.
TextArena draws lots from Python's own generators; each game gets states of these of its own. What has one beginning
only (TowerOfHanoi) is the same game in each fold.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentsError, MissingDependency, UnknownEnvironment, did_you_mean
from environments.gym import FIRST_SEED, SEEDS_PER_FOLD
from environments.parameters import Game, Parameter, Value
from environments.worker import format_error

DESCRIPTION = "TextArena's games for one player, as textarena/<its id> (Sokoban-v0, 2048-v0, Sudoku-v0, …)"
REMEDY = (
    "install it with `pip install --no-deps textarena==0.7.4`, then `pip install nltk python-dotenv openai requests`"
)
GAMES: dict[str, Game] = {}
GAME = Game(
    "a game of TextArena",
    {
        "forgiving": Parameter(
            1, 0, 1, "whether a move that cannot be made is answered (1), or the second one in a row loses (0)"
        ),
        "step_limit": Parameter(100, 1, 10_000, "the number of actions an episode may have"),
    },
)
_WAYS = ("up", "down", "left", "right")
_MOVES: dict[str, tuple[str, ...]] = {
    "2048": ("[Up]", "[Down]", "[Left]", "[Right]"),
    "FrozenLake": tuple(f"[{way}]" for way in _WAYS),
    "Sokoban": tuple(f"[{way}]" for way in _WAYS),
    "FifteenPuzzle": tuple(f"[{way}]" for way in _WAYS),
    "TowerOfHanoi": tuple(f"[{one} {other}]" for one in "ABC" for other in "ABC" if one != other),
    "Blackjack": ("[Hit]", "[Stand]"),
    "ThreeCardMonte": ("[0]", "[1]", "[2]"),
    "Secretary": ("[accept]", "[continue]"),
    "LightsOut": tuple(f"[{row} {column}]" for row in range(5) for column in range(5)),
    "Minesweeper-v0-small": tuple(f"[{row} {column}]" for row in range(5) for column in range(5)),
}
"""What can be done in small games; others take free text."""

_drawing = threading.RLock()


class TextArenaEnv(TextEnv):
    """A game. It is won with the whole reward, 1; what ends otherwise is lost, with the share of it that was reached.

    Args:
        env_id: the id under which the registry made it.
        game: TextArena's own id.
        forgiving: whether a move that cannot be made is answered, and costs a step; else the second in a row loses.
        step_limit: the number of actions an episode may have.
    """

    def __init__(self, env_id: str, game: str, *, forgiving: bool = True, step_limit: int = 100) -> None:
        super().__init__(env_id, step_limit)
        self._id = f"{game}-raw"  # TextArena's own words, not rendered as one text
        self._forgiving = forgiving
        self._moves = next((moves for name, moves in _MOVES.items() if re.match(rf"{name}(-v|$)", game)), None)
        self._game: Any = None
        self._lots: tuple[Any, Any] | None = None

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        seed = FIRST_SEED[task.split] + task.seed
        self._lots = None
        with self._own_lots(seed):
            try:
                self._game = _textarena().make(self._id)
                self._game.reset(num_players=1, seed=seed)
            except Exception as error:  # what it lacks: a list of words, a key, a second player
                raise EnvironmentsError(
                    f"{self.env_id} cannot be made here: {format_error(error)}; choose another game"
                ) from error
            if self._forgiving:
                self._game.state.error_allowance = 10**9
            said = self._said()
        goal = " ".join(" ".join(text for kind, text in said if kind == "PROMPT").split())
        seen = [text for kind, text in said if kind != "PROMPT"]
        return self._turn("\n".join(seen) or goal, goal=goal)

    def act(self, action: str) -> Turn:
        with self._own_lots():
            done, _ = self._game.step(action)
            said = self._said()
            reward = float((self._game.close()[0] or {}).get(0) or 0.0) if done else 0.0
        seen = "\n".join(text for kind, text in said if kind != "PLAYER_ACTION")
        return self._turn(seen or ("The game is over." if done else "Nothing is said."), done=done, reward=reward)

    def _turn(self, observation: str, goal: str = "", *, done: bool = False, reward: float = 0.0) -> Turn:
        score = min(1.0, max(0.0, reward))
        won = done and score == 1.0
        moves = [] if done else self._moves
        return Turn(observation.strip(), moves, score, won, done and not won, "", goal, reward)

    def _said(self) -> list[tuple[str, str]]:
        """What the player was told since the last time: of which kind, and the words."""
        return [(kind.name, text.strip()) for _, text, kind in self._game.get_observation()[1]]

    @contextlib.contextmanager
    def _own_lots(self, seed: int | None = None) -> Iterator[None]:
        """Within it, Python's and NumPy's generators are this game's."""
        with _drawing:
            kept = random.getstate(), np.random.get_state()
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed)
            elif self._lots is not None:
                random.setstate(self._lots[0])
                np.random.set_state(self._lots[1])
            try:
                yield
            finally:
                self._lots = random.getstate(), np.random.get_state()
                random.setstate(kept[0])
                np.random.set_state(kept[1])


@cache
def _textarena() -> Any:
    try:
        import textarena
    except ImportError as error:
        raise MissingDependency(f"TextArena cannot be loaded ({error}); {REMEDY}") from error
    return textarena


@cache
def _ids() -> tuple[str, ...]:
    from textarena.envs.registration import ENV_REGISTRY

    return tuple(name.removesuffix("-raw") for name in ENV_REGISTRY if name.endswith("-raw"))


def make(name: str, parameters: Mapping[str, Value]) -> TextEnv:
    """The environment `textarena/<TextArena's id>`."""
    complete = GAME.complete(name, parameters)
    reason = why_not()
    if reason:
        raise MissingDependency(reason)
    _textarena()
    game = name.removeprefix("textarena/")
    if game not in _ids():
        raise UnknownEnvironment(f"TextArena has no game `{game}`; {did_you_mean(game, _ids())}")
    return TextArenaEnv(
        GAME.canonical(name, parameters), game, forgiving=bool(complete["forgiving"]), step_limit=complete["step_limit"]
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    if importlib.util.find_spec("textarena") is None:
        return f"TextArena is missing; the textarena games need it; {REMEDY}"
    return None
