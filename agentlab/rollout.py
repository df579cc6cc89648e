"""Many episodes at once: tasks side by side, the trials of one task after each other (as in Reflexion).

One slow or dead environment stops nobody else; Ctrl-C keeps what is finished; the same call again goes on where the
last one stopped, because every episode's id follows from what determines it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agentlab.agent import play_episode
from agentlab.arms import Arm
from agentlab.engines.base import Engine
from agentlab.errors import AgentLabError, Stopped
from agentlab.play import EpisodeSpec, Play
from agentlab.reflectors.exemplar import ExemplarReflector
from environments import Task, TextEnv, make
from memory.records import Episode, Reflection

if TYPE_CHECKING:
    from agentlab.recall import Recaller
    from agentlab.reflectors.base import Reflector
    from agentlab.router import Router
    from memory import Database, ReflectionMemory


@dataclass(frozen=True)
class Trial:
    """How one trial of a task ended."""

    episode: str
    status: str
    score: float
    steps: int


@dataclass(frozen=True)
class TaskResult:
    """All trials of one task under one arm."""

    task: Task
    arm: str
    trials: tuple[Trial, ...]

    def won_within(self, trials: int) -> bool | None:
        """Whether one of the first `trials` trials won; None if that is unknown because one of them errored."""
        seen = self.trials[:trials]
        if any(trial.status == "won" for trial in seen):
            return True
        return None if any(trial.status == "errored" for trial in seen) else False

    @property
    def best_score(self) -> float:
        return max((trial.score for trial in self.trials), default=0.0)


class EnvironmentPool:
    """Environments in use by one rollout, made once per worker and id, closed together."""

    def __init__(self, factory: Callable[[str], TextEnv] = make) -> None:
        self.factory = factory
        self._idle: dict[str, list[TextEnv]] = {}
        self._all: list[TextEnv] = []
        self._lock = threading.Lock()

    def take(self, env_id: str) -> TextEnv:
        with self._lock:
            if self._idle.get(env_id):
                return self._idle[env_id].pop()
        env = self.factory(env_id)
        with self._lock:
            self._all.append(env)
        return env

    def give(self, env_id: str, env: TextEnv) -> None:
        with self._lock:
            self._idle.setdefault(env_id, []).append(env)

    def close(self) -> None:
        with self._lock:
            for env in self._all:
                with suppress(Exception):
                    env.close()
            self._all, self._idle = [], {}


@dataclass
class Rollout:
    """Plays tasks under an arm and stores what was lived.

    Attributes:
        run: name of the run; with the same name, finished episodes are not played again.
        concurrency: tasks in flight at once (threads; the engine scores one step at a time).
        checkpointer: LangGraph saver for episodes in flight; None plays them without.
        reflectors: draw reflections after each episode of an arm with memory; they are stored where `memory` is given.
        router: composes the skills of each episode, for an arm that has them.
    """

    run: str
    database: Database
    engine: Engine
    memory: ReflectionMemory | None = None
    recaller: Recaller | None = None
    reflectors: Sequence[Reflector] = ()
    checkpointer: Any = None
    router: Router | None = None
    concurrency: int = 2
    seed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    pool: EnvironmentPool = field(default_factory=EnvironmentPool)

    def play(
        self,
        tasks: Sequence[Task],
        arm: Arm,
        *,
        trials: int = 1,
        until_won: bool = True,
        progress: Callable[[TaskResult], None] | None = None,
    ) -> list[TaskResult]:
        """Play every task for up to `trials` trials. Results come in the order of `tasks`.

        Raises Stopped after Ctrl-C or `stop.set()`, once the steps in flight are done; finished trials are stored.
        """
        from agentlab.agent import build_graph

        if arm.adapter != self.engine.adapter:
            raise AgentLabError(
                f"This rollout plays with {self.engine.adapter or 'the base'}, and the arm {arm.name!r} asks for "
                f"{arm.adapter or 'the base'}; make a rollout of that arm."
            )
        graph = build_graph(self.checkpointer)
        results: dict[int, TaskResult] = {}
        waiting = iter(enumerate(tasks))
        flying: dict[Future[TaskResult], int] = {}
        with ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="rollout") as workers:
            try:
                while True:
                    for index, task in _at_most(waiting, self.concurrency - len(flying)):
                        flying[workers.submit(self._task, task, arm, trials, until_won, graph)] = index
                    if not flying:
                        break
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in done:
                        index = flying.pop(future)
                        results[index] = future.result()
                        if progress is not None:
                            progress(results[index])
            except BaseException as error:
                self.stop.set()
                wait(flying)
                if isinstance(error, KeyboardInterrupt):
                    raise Stopped(
                        f"Stopped with {len(results)} of {len(tasks)} tasks finished; "
                        "nothing is lost, the same command goes on from here."
                    ) from None
                raise
        return [results[index] for index in range(len(tasks))]

    def _task(self, task: Task, arm: Arm, trials: int, until_won: bool, graph: Any) -> TaskResult:
        played = list[Trial]()
        for trial in range(trials):
            spec = EpisodeSpec(self.run, task, arm, trial, self.seed, self.engine.name)
            known = self.database.journal_get(self._scope, spec.id)
            if known is None:
                known = _summary(self._episode(spec, graph))
            played.append(Trial(**known))
            if until_won and known["status"] == "won":
                break
        return TaskResult(task, arm.name, tuple(played))

    def _episode(self, spec: EpisodeSpec, graph: Any) -> Episode:
        env = self.pool.take(spec.task.env)
        try:
            play = Play(
                spec,
                env,
                self.engine,
                recaller=self.recaller if spec.arm.recall is not None else None,
                reflectors=self._reflectors(env) if spec.arm.recall is not None else (),
                store=partial(self._store, spec),
                router=self.router,
                stop=self.stop,
            )
            return play_episode(play, graph)
        finally:
            self.pool.give(spec.task.env, env)

    def _reflectors(self, env: TextEnv) -> list[Reflector]:
        """The reflectors; exemplars are minimised in the environment in which their episode was just played."""
        return [
            reflector.in_env(env) if isinstance(reflector, ExemplarReflector) else reflector
            for reflector in self.reflectors
        ]

    def _store(self, spec: EpisodeSpec, episode: Episode, reflections: list[Reflection]) -> None:
        with self.database.transaction():
            self.database.put_episode(episode)
            if self.memory is not None:
                if reflections:
                    self.memory.remember(reflections)
                if episode.recalled and episode.status != "errored":
                    self.memory.outcome(episode.id, episode.won)
            if self.recaller is not None:
                self.recaller.learn(spec, episode)
            # In the same transaction: an episode that is stored is never played again.
            self.database.journal_put(self._scope, episode.id, _summary(episode))

    @property
    def _scope(self) -> str:
        return f"trials|{self.run}"

    def close(self) -> None:
        """Close the environments of this rollout."""
        self.pool.close()


def _summary(episode: Episode) -> dict[str, Any]:
    """What a finished trial is known by: the fields of Trial."""
    return {
        "episode": episode.id,
        "status": episode.status,
        "score": episode.score,
        "steps": len(episode.steps),
    }


def _at_most(items: Iterable[tuple[int, Task]], count: int) -> list[tuple[int, Task]]:
    """The next `count` items of an iterator."""
    taken = []
    for _ in range(count):
        item = next(iter(items), None)
        if item is None:
            break
        taken.append(item)
    return taken
