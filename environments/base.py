"""What every environment is: a gymnasium environment whose observations and actions are text.

A subclass writes two methods, `begin` and `act`, each of which returns a `Turn`. Folds, step and time limit, rewards,
the info dictionary, the check of what was answered and the errors for misuse are the same for all and live here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import gymnasium
import gymnasium.spaces
from pydantic import BaseModel, ConfigDict

from environments.answers import (
    format_value,
    validate_commands,
    validate_flag,
    validate_number,
    validate_score,
    validate_text,
)
from environments.errors import BadAnswer, BadTask, EnvironmentDied, NotPlaying, did_you_mean
from environments.worker import Worker, format_error

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
LONGEST_TEXT = 1_000_000
ANSWER_LIMIT = 120.0  # seconds


class Task(BaseModel):
    """One game of one environment: which environment, which fold, which seed in it. Same task, same game, anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    split: Split
    seed: int

    @property
    def id(self) -> str:
        """`env:split:seed`, which `parse` reads back."""
        return f"{self.env}:{self.split}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Task:
        """The task that `text` names.

        Raises:
            BadTask: if the text is not `env:split:seed`.
        """
        env, split, seed = ["", "", *text.rsplit(":", 2)][-3:]
        if not env or split not in SPLITS or not seed.isdecimal():
            raise BadTask(f"`{text}` is not a task; a task is env:split:seed; write it like `twx/coin:train:0`")
        return cls(env=env, split=split, seed=int(seed))


class Info(TypedDict):
    """What an environment tells beside the observation, at reset and at every step."""

    admissible_commands: list[str] | None  # sorted, no duplicates; what is worth trying now; None: any text is taken
    score: float  # progress in [0, 1]; 1 is the best end
    won: bool
    lost: bool
    goal: str  # the task in words; the same throughout the episode
    state: str  # identifies the situation as far as the player can know it: look, inventory, score


class Turn(NamedTuple):
    """What an environment says when the game begins and after each action.

    `score` is 1 for a win and 0 otherwise where it is left out. `state` and `goal` may stay empty: then the state is
    the observation with the score, and the goal the one before. `value` is the number whose change is the reward;
    without it, the score. It may leave [0, 1] (a loss may cost). `cut` says that the game itself ended the episode, and
    that it is neither won nor lost: its time was over.

    `admissible` is None where any text is taken as an action and none can be listed. In the other fields but the
    observation None is as if the field were left out.
    """

    observation: str
    admissible: Iterable[str] | None
    score: float | None = None
    won: bool = False
    lost: bool = False
    state: str = ""
    goal: str = ""
    value: float | None = None
    cut: bool = False


class AnyText(gymnasium.spaces.Text):
    """The space of all texts, whatever their characters. Samples are plain ASCII."""

    def __init__(self, max_length: int = LONGEST_TEXT) -> None:
        super().__init__(max_length=max_length, min_length=0)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length


class TextEnv(gymnasium.Env[str, str], ABC):
    """A text environment with folds of seeded games.

    Write `begin` and `act`; call `super().__init__(env_id, step_limit)`. An action that is not admissible is not an
    error: the environment answers it as it likes, usually with a sentence that says so.

    Args:
        env_id: the id under which the registry makes this environment, parameters included.
        step_limit: the number of actions after which an episode is truncated.

    Attributes:
        answer_limit: seconds that a reset or a step may take; a slow environment sets more. One that takes longer is
            `EnvironmentHung`, and of no further use. None is for those that keep a limit themselves.
    """

    answer_limit: float | None = ANSWER_LIMIT
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's name and type

    def __init__(self, env_id: str, step_limit: int) -> None:
        self.env_id = env_id
        self.step_limit = step_limit
        self.observation_space = AnyText()
        self.action_space = AnyText()
        self.task: Task | None = None
        self.worker = Worker(env_id)
        self._given: dict[str, str] = {}  # commands as the environment gave them, where they are reported otherwise
        self._steps = 0
        self._value = 0.0
        self._goal = ""
        self._over = True

    @abstractmethod
    def begin(self, task: Task) -> Turn:
        """Set up the game of `task` and say what the player sees first, the goal included."""

    @abstractmethod
    def act(self, action: str) -> Turn:
        """Do `action` in the running game and say what came of it."""

    def seeds(self, split: Split) -> Sequence[int]:
        """The seeds of a fold. Seed 3 of `train` and seed 3 of `test` must be different games."""
        return range(1000)

    def fold(self, split: Split) -> Sequence[int]:
        """The seeds of a fold, asked for in the environment's own thread.

        Raises:
            EnvironmentDied: if it hung, or wanted to end the program.
        """
        if self.answer_limit is None:
            return self.seeds(split)
        return self.worker.call(lambda: self.seeds(split), self.answer_limit)

    def start(self, task: Task) -> tuple[str, Info]:
        """Reset to the game of `task`.

        Raises:
            BadTask: if the fold has no such seed, or the task belongs to another environment.
            EnvironmentDied: if it hung, wanted to end the program, or answered with what no game can be played by.
        """
        if task.env != self.env_id:
            raise BadTask(
                f"`{task.id}` is no task of `{self.env_id}`; it belongs to `{task.env}`; make that environment"
            )
        seeds = self.fold(task.split)
        self._some(task.split, seeds)
        if task.seed not in seeds:
            raise BadTask(
                f"{self.env_id} has no seed {task.seed} in fold {task.split}; they are {min(seeds)} to {max(seeds)}; "
                "choose one of those"
            )
        self._over = True
        try:
            turn = self._ask(lambda: self.begin(task))
        except BadTask as error:  # not of the caller's making: the fold has this seed
            raise EnvironmentDied(
                f"The environment `{self.env_id}` cannot begin {task.id}: {format_error(error)}"
            ) from error
        self.task = task
        self._steps = 0
        self._value = 0.0
        self._goal = turn.goal
        self._reward(turn)
        self._over = turn.won or turn.lost
        return turn.observation, self._info(turn)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, Info]:  # type: ignore[override]
        """Start a game: `seed` of the fold `options["split"]` (default train), or a random one of it without a seed.

        Raises:
            BadTask: if there is no such fold, or no such seed in it.
        """
        split = (options or {}).get("split", "train")
        if split not in SPLITS:
            raise BadTask(f"there is no fold `{split}`; {did_you_mean(str(split), SPLITS)}")
        super().reset(seed=seed)
        if seed is None:
            seeds = self.fold(split)
            self._some(split, seeds)
            seed = seeds[int(self.np_random.integers(len(seeds)))]
        return self.start(Task(env=self.env_id, split=split, seed=seed))

    def _some(self, split: Split, seeds: Sequence[int]) -> None:
        if not len(seeds):
            raise BadTask(f"{self.env_id} has no game in fold {split}; put some there, or choose another fold")

    def step(self, action: str) -> tuple[str, float, bool, bool, Info]:  # type: ignore[override]
        """Do `action`. Returns observation, reward (change of the score), terminated (won or lost), truncated, info.

        Raises:
            NotPlaying: if no episode is running.
            EnvironmentDied: if it hung, wanted to end the program, or answered with what no game can be played by.
        """
        if self._over:
            raise NotPlaying(f"no episode of {self.env_id} is running; it ended or never began; call reset first")
        self._over = True  # if `act` raises, the episode has ended
        turn = self._ask(lambda: self.act(self._given.get(action, action)))
        self._steps += 1
        reward = self._reward(turn)
        terminated = turn.won or turn.lost
        truncated = not terminated and (turn.cut or self._steps >= self.step_limit)
        self._over = terminated or truncated
        return turn.observation, reward, terminated, truncated, self._info(turn)

    def _ask(self, call: Callable[[], Turn]) -> Turn:
        """What `call` answers, made in the environment's own thread, and checked."""
        if self.answer_limit is None:
            return self._checked(call())
        # Checked there too: the commands may be made while they are read.
        return self.worker.call(lambda: self._checked(call()), self.answer_limit)

    def _checked(self, turn: Turn) -> Turn:
        env = self.env_id
        if not isinstance(turn, Turn):
            raise BadAnswer(env, "turn", f"= {format_value(turn)}, which is no `Turn`")
        commands = None if turn.admissible is None else self._listed(turn.admissible)
        won = turn.won is not None and validate_flag(env, "won", turn.won)
        return Turn(
            validate_text(env, "observation", turn.observation),
            commands,
            float(won) if turn.score is None else validate_score(env, "score", turn.score),
            won,
            turn.lost is not None and validate_flag(env, "lost", turn.lost),
            "" if turn.state is None else validate_text(env, "state", turn.state),
            "" if turn.goal is None else validate_text(env, "goal", turn.goal),
            None if turn.value is None else validate_number(env, "value", turn.value),
            turn.cut is not None and validate_flag(env, "cut", turn.cut),
        )

    def _listed(self, admissible: Iterable[str]) -> list[str]:
        """The commands as they are reported: sorted, each once."""
        given = validate_commands(self.env_id, "admissible", admissible)
        commands = [validate_text(self.env_id, "admissible", command) for command in given]
        self._given = {name: own for name, own in zip(commands, given, strict=True) if name != own}
        return sorted(set(commands))

    def _reward(self, turn: Turn) -> float:
        value = (turn.score or 0.0) if turn.value is None else turn.value
        reward = validate_number(self.env_id, "value", value - self._value)
        self._value = value
        return reward

    def _info(self, turn: Turn) -> Info:
        return {
            "admissible_commands": None if turn.admissible is None else list(turn.admissible),
            "score": turn.score or 0.0,
            "won": turn.won,
            "lost": turn.lost,
            "goal": turn.goal or self._goal,
            "state": turn.state or f"{turn.observation}\nScore: {turn.score or 0.0:.2f}",
        }
