"""The games of TextArena (Guertler et al. 2025) for one player: `textarena/Sokoban-v0` and others.

Actions are free text in square brackets, `[up]`; small games list theirs. How well it went is said at the end alone. Of
a game that has few beginnings (TowerOfHanoi has one) the folds share some.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import random
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentsError, MissingDependency, UnknownEnvironment, did_you_mean
from environments.folds import belongs
from environments.gym import FIRST_SEED, SEEDS_PER_FOLD
from environments.parameters import Game, Parameter, Value
from environments.worker import format_error

DESCRIPTION = "TextArena's games for one player, as textarena/<its id> (Sokoban-v0, 2048-v0, Sudoku-v0, …)"
REMEDY = "install it with `pip install 'agentlab[textarena]'`"
GAMES: dict[str, Game] = {}
CHECKED = ("textarena/FrozenLake-v0-random?step_limit=5", "textarena/LightsOut-v0?step_limit=5")
GAME = Game(
    "a game of TextArena",
    {
        "forgiving": Parameter(1, 0, 1, "whether a wrong move is answered (1), or the second one in a row loses (0)"),
        "step_limit": Parameter(100, 1, 10_000, "the number of actions an episode may have"),
    },
)
# Those whose reward is 1 for what is solved, and the share of it otherwise, and where a wrong move is no part of play.
# In others it is a regret, a count, or a wrong move is what loses (Minesweeper's mines). Countdown, Cryptarithm,
# Slitherlink and FifteenPuzzle fail in TextArena 0.7.4, at the first move or at a win.
PLAYED = (
    "2048", "Blackjack", "Crosswords", "FrozenLake", "GuessTheNumber", "Hangman", "LightsOut", "LogicPuzzle",
    "Mastermind", "PegJump", "RushHour", "Secretary", "Sokoban", "Sudoku", "ThreeCardMonte", "TowerOfHanoi",
    "WordLadder", "WordSearch", "Wordle",
)  # fmt: skip
_WAYS = tuple(f"[{way}]" for way in ("up", "down", "left", "right"))
_MOVES: dict[str, tuple[str, ...]] = {
    "2048": ("[Up]", "[Down]", "[Left]", "[Right]"),
    "FrozenLake": _WAYS,
    "Sokoban": _WAYS,
    "TowerOfHanoi": tuple(f"[{one} {other}]" for one in "ABC" for other in "ABC" if one != other),
    "Blackjack": ("[Hit]", "[Stand]"),
    "ThreeCardMonte": ("[0]", "[1]", "[2]"),
    "Secretary": ("[accept]", "[continue]"),
    "LightsOut": tuple(f"[{row} {column}]" for row in range(5) for column in range(5)),
}
"""What can be done in small games; others take free text."""
TRIES = 50
"""Games that are drawn, at most, until one belongs to its fold."""

_drawing = threading.local()


class _Lots:
    """What TextArena's modules take for `random`, or `numpy.random`: the lots of the game that is played right now."""

    def __init__(self, which: int, module: Any) -> None:
        self._which, self._module = which, module

    def __getattr__(self, name: str) -> Any:
        lots = getattr(_drawing, "lots", None)
        own = getattr(lots[self._which], name, None) if lots else None
        return getattr(self._module, name) if own is None else own


class _Numpy:
    """NumPy with other lots."""

    random = _Lots(1, np.random)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class TextArenaEnv(TextEnv):
    """A game. It is won with the whole reward, 1; what ends otherwise is lost, with the share of it that was reached,
    unless its own turns were over.

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
        self._moves = _MOVES.get(game.partition("-v")[0])
        self._game: Any = None
        self._lots: tuple[random.Random, np.random.RandomState] | None = None
        self._board = ""

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        drawn = random.Random(FIRST_SEED[task.split] + task.seed)
        for _ in range(TRIES):
            seed = drawn.randrange(2**31)
            self._lots = (random.Random(seed), np.random.RandomState(seed))
            try:
                with self._own_lots():
                    self._game = _made(self._id)
                    self._game.reset(num_players=1, seed=seed)
                    said = self._said()
            except Exception as error:
                words = isinstance(error, LookupError) and "nltk" in str(error).lower()
                why = "it needs NLTK's words (`python -m nltk.downloader words`)" if words else format_error(error)
                raise EnvironmentsError(f"{self.env_id} cannot be made here: {why}; or choose another game") from error
            if belongs("\n".join(text for _, text in said), task.split):
                break
        if self._forgiving:
            self._game.state.error_allowance = 10**9
        goal = " ".join(" ".join(text for kind, text in said if kind == "PROMPT").split())
        seen = "\n".join(text for kind, text in said if kind != "PROMPT")
        self._board = seen
        return self._turn(seen or goal, goal=goal)

    def act(self, action: str) -> Turn:
        with self._own_lots():
            done, _ = self._game.step(action)
            said = self._said()
            reward = float((self._game.close()[0] or {}).get(0) or 0.0) if done else 0.0
        self._board = next((text for kind, text in reversed(said) if kind == "GAME_BOARD"), self._board)
        seen = "\n".join(text for kind, text in said if kind != "PLAYER_ACTION")
        return self._turn(seen or ("The game is over." if done else "Nothing is said."), done=done, reward=reward)

    def _turn(self, observation: str, goal: str = "", *, done: bool = False, reward: float = 0.0) -> Turn:
        score = min(1.0, max(0.0, reward))
        won = done and score == 1.0
        cut = done and not won and self._turns_are_over()
        state = observation if self._board in observation else f"{self._board}\n{observation}"
        lost = done and not won and not cut
        return Turn(observation, [] if done else self._moves, score, won, lost, state, goal, reward, cut)

    def _turns_are_over(self) -> bool:
        state = self._game.state
        most = state.max_turns or getattr(self._game, "max_turns", None)
        return most is not None and state.turn + 1 >= most

    def _said(self) -> list[tuple[str, str]]:
        """What the player was told since the last time: of which kind, and the words."""
        return [(kind.name, text.strip()) for _, text, kind in self._game.get_observation()[1]]

    @contextlib.contextmanager
    def _own_lots(self) -> Iterator[None]:
        """Within it, what this thread draws in TextArena's modules is drawn from the lots of this game."""
        _drawing.lots = self._lots
        try:
            yield
        finally:
            _drawing.lots = None


@cache
def _textarena() -> Any:
    try:
        # It would fetch lists of words from the network, and say so.
        with _no_downloads(), contextlib.redirect_stderr(io.StringIO()):
            import textarena
    except ImportError as error:
        raise MissingDependency(f"TextArena cannot be loaded ({error}); {REMEDY}") from error
    return textarena


@contextlib.contextmanager
def _no_downloads() -> Iterator[None]:
    import nltk

    kept, nltk.download = nltk.download, lambda *_, **__: False
    try:
        yield
    finally:
        nltk.download = kept


def _made(game: str) -> Any:
    """A game of TextArena, in whose modules lots are drawn by `_Lots`, and nothing is printed."""
    arena = _textarena()
    with _no_downloads():
        importlib.import_module(arena.envs.registration.ENV_REGISTRY[game].entry_point.partition(":")[0])
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "textarena":
                for attribute, own, other in (("random", random, _Lots(0, random)), ("np", np, _Numpy())):
                    if getattr(module, attribute, None) is own:
                        setattr(module, attribute, other)
                module.__dict__.setdefault("print", lambda *_, **__: None)
        return arena.make(game)


@cache
def _ids() -> tuple[str, ...]:
    from textarena.envs.registration import ENV_REGISTRY

    names = (name.removesuffix("-raw") for name in ENV_REGISTRY if name.endswith("-raw"))
    return tuple(name for name in names if name.partition("-v")[0] in PLAYED)


def make(name: str, parameters: Mapping[str, Value]) -> TextEnv:
    """The environment `textarena/<TextArena's id>`."""
    complete = GAME.complete(name, parameters)
    reason = why_not()
    if reason:
        raise MissingDependency(reason)
    _textarena()
    game = name.removeprefix("textarena/")
    if game not in _ids():
        raise UnknownEnvironment(
            f"`{game}` is no game of TextArena's that is played here; {did_you_mean(game, _ids())}"
        )
    return TextArenaEnv(
        GAME.canonical(name, parameters), game, forgiving=bool(complete["forgiving"]), step_limit=complete["step_limit"]
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    if importlib.util.find_spec("textarena") is None:
        return f"TextArena is missing; the textarena games need it; {REMEDY}"
    return None
