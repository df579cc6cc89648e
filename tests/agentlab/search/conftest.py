"""What the tests of the search share: a corridor in which a step can be undone, at a price, and records of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.engines.model import Model
from agentlab.search.config import SearchConfig
from agentlab.search.walk import Player
from agentlab.trajectories.budget import Budget
from agentlab.trajectories.replay import replay
from environments import Task, TextEnv, Turn
from memory.records import Episode


class Corridor(TextEnv):
    """Five places in a row; the third one east of the start wins, its western end loses. A lamp can be taken at the
    start only; with `dark` nobody can go east without it. Each place east scores a quarter."""

    def __init__(self, *, dark: bool = False, step_limit: int = 8) -> None:
        super().__init__("own/corridor", step_limit)
        self.dark = dark
        self.fault: Callable[[int, str], str] | None = None
        self.starts = 0
        self.acted = 0

    def begin(self, task: Task) -> Turn:
        self.starts += 1
        self.place, self.lamp = 0, False
        return self._turn("You are in a corridor.", goal="Go to the east end.")

    def act(self, action: str) -> Turn:
        self.acted += 1
        if action == "take lamp":
            self.lamp = True
        elif action in self._commands():
            self.place += 1 if action == "east" else -1
        said = f"You {action}."
        return self._turn(self.fault(self.starts, said) if self.fault else said)

    def _commands(self) -> list[str]:
        lamp = ["take lamp"] if self.place == 0 and not self.lamp else []
        return ["west", *lamp, *([] if self.dark and not self.lamp else ["east"])]

    def _turn(self, observation: str, goal: str = "") -> Turn:
        won, lost = self.place == 3, self.place == -1
        score = 1.0 if won else max(0, self.place) / 4
        carried = "a lamp" if self.lamp else "nothing"
        return Turn(
            observation, self._commands(), score, won, lost, f"Place {self.place}, carrying {carried}, {score}.", goal
        )


TASK = Task(env="own/corridor", split="train", seed=0)


@pytest.fixture
def corridor() -> type[Corridor]:
    return Corridor


@pytest.fixture
def played() -> Callable[..., Episode]:
    """Plays these actions in an environment (by default a corridor) and returns the episode."""

    def made(*actions: str, env: TextEnv | None = None, task: Task = TASK, **values: Any) -> Episode:
        lived = replay(env or Corridor(), task, actions)
        assert lived is not None
        last = lived.steps[-1]
        lost = "lose" in last.result or "Place -1" in last.next_state
        usual: dict[str, Any] = {
            "id": "ep-" + "-".join(actions),
            "run": "r",
            "goal": "Go to the east end.",
            "status": "won" if lived.won else "lost" if lost else "truncated",
            "score": lived.score,
        }
        return Episode(env=task.env, split=task.split, seed=task.seed, steps=lived.steps, **{**usual, **values})

    return made


@pytest.fixture
def player() -> Callable[..., Player]:
    """Makes a player, by default of a corridor."""

    def made(
        env: TextEnv | None = None, task: Task = TASK, *, steps: int = 400, engine: Any = None, **config: Any
    ) -> Player:
        return Player(
            env or Corridor(),
            task,
            Model(engine) if engine else None,
            SearchConfig(**config),
            Budget(steps=steps),
            run="r",
        )

    return made
