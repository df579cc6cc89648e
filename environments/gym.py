"""Any gymnasium environment whose observations are text: `gym/<gymnasium id>`, or `GymTextEnv(env)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar

import gymnasium
import gymnasium.spaces

from environments.answers import format_value, validate_commands, validate_flag, validate_number, validate_text
from environments.base import ANSWER_LIMIT, Split, Task, TextEnv, Turn
from environments.errors import BadAnswer, BadParameter, EnvironmentsError, UnknownEnvironment, did_you_mean
from environments.parameters import Game, Value, join

DESCRIPTION = "any gymnasium environment whose observations are text, as gym/<its gymnasium id>"
GAMES: dict[str, Game] = {}
STEP_LIMIT = 100
SEEDS_PER_FOLD = 1000
FIRST_SEED: dict[Split, int] = {"train": 0, "dev": 10_000, "test": 20_000}
# Where an environment may say what is worth doing now, and what may hold the text of an observation.
COMMANDS = ("admissible_commands", "valid_actions", "valid_commands", "available_actions")
TEXTS = ("text", "obs", "observation", "description")
Told = TypeVar("Told")


class GymTextEnv(TextEnv):
    """A gymnasium environment as a `TextEnv`.

    Observations are texts, or dictionaries with one. Actions are texts, or numbered: then their names come from
    `action_names`, and without these from the numbers. What the environment's info says under our keys is taken over
    (`admissible_commands`, `score`, `won`, `lost`, `goal`, `state`); what it does not say, or says to be None, is made
    up for:

    - admissible commands: the names of the numbered actions; None for actions that are free text;
    - score: the sum of the rewards, cut to [0, 1]; at the end 1 if won;
    - won: it ended with a positive sum of rewards; lost: it ended otherwise;
    - goal: what `goal` says, or the environment's docstring's first line.

    A numbered action that does not exist is answered here: nothing happens.

    Args:
        env: the environment, or its gymnasium id.
        env_id: our id for it; `gym/<gymnasium id>` unless given.
        step_limit: the number of actions an episode may have.
        action_names: the names of the numbered actions.
        goal: the task in words, for environments that do not tell it.
        answer_limit: seconds that a reset or a step may take.
        settings: for an id: keywords of `gymnasium.make`.

    Raises:
        UnknownEnvironment: if gymnasium has no such id.
        EnvironmentsError: if its observations or actions are not text.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any] | str,
        *,
        env_id: str | None = None,
        step_limit: int = STEP_LIMIT,
        action_names: Sequence[str] | None = None,
        goal: str = "",
        answer_limit: float = ANSWER_LIMIT,
        **settings: Any,
    ) -> None:
        if isinstance(env, str):
            name, env = env, _make(env, settings)
        else:
            name = env.spec.id if env.spec else type(env).__name__
        super().__init__(env_id or f"gym/{name}", step_limit)
        self.env = env
        self._default_goal = goal or _first_line(env.unwrapped.__doc__) or name
        space = env.observation_space
        self._key = _text_key(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else None
        if self._key is None and not isinstance(space, gymnasium.spaces.Text):
            raise EnvironmentsError(
                f"the observations of `{name}` are not text but {space}; "
                "wrap it so that they are (gymnasium.wrappers.TransformObservation), and register that as your own: "
                "examples/own_environment.py"
            )
        actions = env.action_space
        self._numbers: dict[str, Any] | None = None
        if isinstance(actions, gymnasium.spaces.Discrete):
            numbers = range(int(actions.start), int(actions.start + actions.n))
            names = list(action_names or (str(number) for number in numbers))
            if len(names) != len(numbers) or len(set(names)) != len(names):
                raise EnvironmentsError(
                    f"`{name}` has {len(numbers)} actions, and {len(set(names))} different names were given; "
                    "name each once"
                )
            self._numbers = dict(zip(names, numbers, strict=True))
        elif not isinstance(actions, gymnasium.spaces.Text):
            raise EnvironmentsError(f"the actions of `{name}` are neither text nor numbered but {actions}; wrap it")
        self.answer_limit = answer_limit
        self._return = 0.0
        self._last = Turn("", ())

    def seeds(self, split: Split) -> Sequence[int]:
        return range(SEEDS_PER_FOLD)

    def begin(self, task: Task) -> Turn:
        # The folds of an environment that knows none are three ranges of its seeds.
        observation, info = self.env.reset(seed=FIRST_SEED[task.split] + task.seed)
        self._return = 0.0
        return self._turn(observation, info, ended=False, goal=self._default_goal)

    def act(self, action: str) -> Turn:
        sent: Any = action
        if self._numbers is not None:
            if action not in self._numbers:
                names = ", ".join(self._numbers)
                return self._last._replace(observation=f"There is no action `{action}`; there are {names}.")
            sent = self._numbers[action]
        observation, reward, terminated, truncated, info = self.env.step(sent)
        self._return += validate_number(self.env_id, "reward", reward)
        turn = self._turn(observation, info, ended=validate_flag(self.env_id, "terminated", terminated))
        cut = validate_flag(self.env_id, "truncated", truncated) and not (turn.won or turn.lost)
        return turn._replace(cut=True) if cut else turn

    def close(self) -> None:
        self.env.close()

    def _turn(self, observation: Any, info: Any, *, ended: bool, goal: str = "") -> Turn:
        if not isinstance(info, Mapping):
            raise BadAnswer(self.env_id, "info", f"= {format_value(info)}, which is no dictionary")
        text = validate_text(self.env_id, "observation", observation if self._key is None else observation[self._key])
        won, lost = self._validated(info, "won", validate_flag), self._validated(info, "lost", validate_flag)
        if won is None:
            won = ended and self._return > 0
        if lost is None:
            lost = ended and not won
        score = self._validated(info, "score", validate_number)
        if score is None:
            score = 1.0 if won else self._return
        score = min(1.0, max(0.0, score))
        # The state is told in any case: an action that does not exist leaves it as it was.
        state = self._validated(info, "state", validate_text) or f"{text}\nScore: {score:.2f}"
        goal = self._validated(info, "goal", validate_text) or goal
        cut = ended and not won and not lost
        self._last = Turn(text, self._offered(info), score, won, lost, state, goal, self._return, cut)
        return self._last

    def _validated(self, info: Mapping[str, Any], key: str, as_type: Callable[[str, str, Any], Told]) -> Told | None:
        return None if info.get(key) is None else as_type(self.env_id, key, info[key])

    def _offered(self, info: Mapping[str, Any]) -> list[str] | None:
        """The commands that are worth trying now, None where any text is taken.

        Numbered actions may be offered by number or by name.
        """
        numbers = self._numbers or {}
        key = next((key for key in COMMANDS if info.get(key) is not None), None)
        if key is None:
            return list(numbers) if self._numbers is not None else None
        offered = info[key]
        if numbers and not isinstance(offered, str | bytes | Mapping) and isinstance(offered, Iterable):
            names = {number: name for name, number in numbers.items()}
            offered = [names.get(command, command) if isinstance(command, Integral) else command for command in offered]
        return validate_commands(self.env_id, key, offered)


def fold_of(seed: int) -> tuple[Split, int]:
    """The fold in whose range a seed lies, and which seed of the fold that is."""
    split = max((first, split) for split, first in FIRST_SEED.items() if first <= seed)[1]
    return split, seed - FIRST_SEED[split]


def _make(gymnasium_id: str, settings: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(gymnasium_id, **settings)
    except gymnasium.error.UnregisteredEnv:
        hint = did_you_mean(gymnasium_id, gymnasium.registry)
        raise UnknownEnvironment(f"gymnasium has no environment `{gymnasium_id}`; {hint}") from None
    except Exception as error:  # an id in a form of its own, and what an environment's own code raises
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EnvironmentsError(f"gymnasium cannot make `{gymnasium_id}`; {what}; check what it needs") from None


def _text_key(spaces: Mapping[str, gymnasium.Space[Any]]) -> str | None:
    texts = [key for key, space in spaces.items() if isinstance(space, gymnasium.spaces.Text)]
    return next((key for key in TEXTS if key in texts), texts[0] if texts else None)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def make(name: str, parameters: Mapping[str, Value]) -> TextEnv:
    """The environment `gym/<gymnasium id>`; parameters other than those of `GymTextEnv` go to `gymnasium.make`."""
    settings: dict[str, Any] = dict(parameters)
    limits = {"step_limit": STEP_LIMIT, "answer_limit": ANSWER_LIMIT}
    for limit, usual in limits.items():
        given = settings.pop(limit, usual)
        # As a question that neither infinity nor what is no number answers with yes.
        if not isinstance(given, int | float) or not 0 < given < math.inf:
            raise BadParameter(f"`{name}` cannot have {limit}={given}; give a number above 0")
        limits[limit] = given
    if limits["step_limit"] % 1:
        raise BadParameter(f"`{name}` cannot have step_limit={limits['step_limit']}; give a whole number above 0")
    return GymTextEnv(
        name.removeprefix("gym/"),
        env_id=join(name, parameters),
        step_limit=int(limits["step_limit"]),
        answer_limit=limits["answer_limit"],
        **settings,
    )


def why_not() -> str | None:
    """Why this family cannot be played here; None if it can."""
    return None
