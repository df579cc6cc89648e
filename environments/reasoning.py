"""The puzzles of reasoning-gym (Stojanovski et al. 2025), a question and one answer: `reasoning/chain_sum` and others.

Answers are free text, so an agent that writes plays them. The score is the data set's own for an answer, 0 to 1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from environments.base import Split, Task, TextEnv, Turn
from environments.errors import EnvironmentsError, MissingDependency, UnknownEnvironment, did_you_mean
from environments.gym import FIRST_SEED, SEEDS_PER_FOLD
from environments.parameters import Game, Value
from environments.worker import format_error

DESCRIPTION = (
    "reasoning-gym's puzzles, one question and one answer, as reasoning/<its data set> (for agents that write)"
)
REMEDY = "install it with `pip install 'agentlab[reasoning]'` (two of its parts are compiled)"
GAMES: dict[str, Game] = {}
GAME = Game("a puzzle of reasoning-gym: one question, one answer")
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
        self._entry: dict[str, Any] = {}

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        try:
            self._data = _reasoning_gym().create_dataset(self._name, seed=FIRST_SEED[task.split] + task.seed, size=1)
            self._entry = self._data[0]
        except Exception as error:  # what a data set lacks: a file, a setting
            raise EnvironmentsError(f"{self.env_id} cannot make {task.id}: {format_error(error)}") from error
        return Turn(str(self._entry["question"]), None, goal=GOAL)

    def act(self, action: str) -> Turn:
        score = min(1.0, max(0.0, float(self._data.score_answer(action.strip(), self._entry))))
        won = score == 1.0
        return Turn("Right." if won else f"The answer is: {self._entry['answer']}", None, score, won, not won)


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
    if data_set not in DATASETS:
        raise UnknownEnvironment(f"reasoning-gym has no data set `{data_set}`; {did_you_mean(data_set, DATASETS)}")
    return ReasoningEnv(GAME.canonical(name, parameters), data_set)


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return f"reasoning-gym is missing; the reasoning puzzles need it; {REMEDY}"
    return None
