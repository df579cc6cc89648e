"""The puzzles of reasoning-gym (Stojanovski et al. 2025), a question and one answer: `reasoning/chain_sum` and others.

Answers are free text, so an agent that writes plays them. The score is the data set's own for an answer, 0 to 1. Some
data sets judge an answer by running it as a program; these are not played here.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentsError, MissingDependency, UnknownEnvironment, did_you_mean
from environments.folds import belongs
from environments.gym import FIRST_SEED, SEEDS_PER_FOLD
from environments.parameters import Game, Value
from environments.worker import format_error

DESCRIPTION = (
    "reasoning-gym's puzzles, one question and one answer, as reasoning/<its data set> (for agents that write)"
)
REMEDY = "install it with `pip install 'agentlab[reasoning]'` (two of its parts are compiled)"
GAMES: dict[str, Game] = {}
CHECKED = ("reasoning/leg_counting",)
GAME = Game("a puzzle of reasoning-gym: one question, one answer")
TRIES = 1000
"""Games that are drawn, at most, until one belongs to its fold."""
_NOT_FROM_THE_SEED = frozenset({
    # Another question or answer in another process, by the order of Python's sets; `pool_matrix` seeds NumPy for all.
    "isomorphic_strings", "knight_swap", "list_functions", "pool_matrix", "ransom_note", "word_ladder",
})  # fmt: skip
GOAL = "Answer the question with the answer alone."


class ReasoningEnv(TextEnv):
    """One question. The right answer wins; any other loses, with the score that the data set gives it.

    Args:
        env_id: the id under which the registry made it.
        data_set: reasoning-gym's name of the data set.
    """

    def __init__(self, env_id: str, data_set: str) -> None:
        super().__init__(env_id, 1)
        self._name = data_set
        self._data: Any = None
        self._entry: dict[str, Any] | None = None

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        try:
            data = _reasoning_gym().create_dataset(self._name, seed=FIRST_SEED[task.split] + task.seed, size=TRIES)
            # Of a puzzle that has few questions, all may belong to another fold.
            entries = (data[number] for number in range(TRIES))
            self._entry = next((one for one in entries if belongs(str(one["question"]), task.split)), None)
        except Exception as error:  # what a data set lacks: a file, a setting
            raise EnvironmentsError(f"{self.env_id} cannot make {task.id}: {format_error(error)}") from error
        if self._entry is None:
            raise EnvironmentsError(f"{self.env_id} has too few questions for three folds; choose another puzzle")
        self._data = data
        return Turn(str(self._entry["question"]), None, goal=GOAL)

    def act(self, action: str) -> Turn:
        assert self._entry is not None
        try:
            score = min(1.0, max(0.0, float(self._data.score_answer(action.strip(), self._entry))))
        except Exception:  # an answer that its data set cannot read is a wrong one
            score = 0.0
        won, right = score == 1.0, self._entry["answer"]
        told = "Right." if won else "Wrong." if right is None else f"Wrong. The answer is: {right}"
        return Turn(told, None, score, won, not won)


def runs_answers(data_set: type) -> bool:
    """Whether the module of a data set runs texts as programs anywhere, and so perhaps an answer."""
    source = inspect.getsource(sys.modules[data_set.__module__])
    return any(word in source for word in ("eval(", "exec(", "parse_expr", "sympify"))


@cache
def _reasoning_gym() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingDependency(f"reasoning-gym cannot be loaded ({error}); {REMEDY}") from error
    return reasoning_gym


def make(name: str, parameters: Mapping[str, Value]) -> TextEnv:
    """The environment `reasoning/<data set>`."""
    GAME.complete(name, parameters)
    _reasoning_gym()
    from reasoning_gym.factory import DATASETS

    data_set = name.removeprefix("reasoning/")
    refused = {name for name, (kind, _) in DATASETS.items() if runs_answers(kind)} | _NOT_FROM_THE_SEED
    playable = sorted(set(DATASETS) - refused)
    if data_set not in DATASETS:
        raise UnknownEnvironment(f"reasoning-gym has no data set `{data_set}`; {did_you_mean(data_set, playable)}")
    if data_set in refused:
        why = "it is not the same for the same seed" if data_set in _NOT_FROM_THE_SEED else "it may run an answer"
        raise UnknownEnvironment(f"`{data_set}` is not played here, since {why}; choose among {', '.join(playable)}")
    return ReasoningEnv(GAME.canonical(name, parameters), data_set)


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return f"reasoning-gym is missing; the reasoning puzzles need it; {REMEDY}"
    return None
