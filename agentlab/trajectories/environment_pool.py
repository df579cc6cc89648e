"""Environments that are lent and given back, so that each is made once and closed with the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentlab import failures
from environments import EnvironmentDied, Info, Task, TextEnv, Turn, dispose, make
from environments.worker import Worker


class Unmade(TextEnv):
    """Stands for an environment that could not be made: no game begins in it."""

    def __init__(self, env_id: str, failure: EnvironmentDied) -> None:
        super().__init__(env_id, 1)
        self.failure = failure

    def start(self, task: Task) -> tuple[str, Info]:
        raise self.failure

    def begin(self, task: Task) -> Turn:
        raise self.failure

    def act(self, action: str) -> Turn:
        raise self.failure


class EnvironmentPool:
    """Environments in use by one rollout, made once per worker and id, closed together.

    One that failed is not used again: what it is in now, nobody knows. `factory` makes one by its id, in the thread of
    a worker.
    """

    def __init__(self, factory: Callable[[str, Worker], TextEnv] = make) -> None:
        self.factory = factory
        self._idle: dict[str, list[TextEnv]] = {}
        self._all: list[TextEnv] = []
        self._making: set[Worker] = set()
        self._given_up: BaseException | None = None
        self._lock = threading.Lock()

    def take(self, env_id: str) -> TextEnv:
        """One that nobody uses. One that cannot be made says so when a game is to begin in it. Raises what `give_up`
        was told."""
        worker = Worker(env_id)
        with self._lock:
            if self._given_up is not None:
                raise self._given_up
            if self._idle.get(env_id):
                return self._idle[env_id].pop()
            # Before it is made: it may hang there.
            self._making.add(worker)
        env: TextEnv | None = None
        try:
            with failures.environment(env_id):
                env = self.factory(env_id, worker)
        except EnvironmentDied as failure:
            return Unmade(env_id, failure)
        finally:
            with self._lock:
                self._making.discard(worker)
                self._all += [] if env is None else [env]
        return env

    def give(self, env_id: str, env: TextEnv) -> None:
        """Back for the next one."""
        with self._lock:
            self._idle.setdefault(env_id, []).append(env)

    def throw_away(self, env: TextEnv) -> None:
        """Not back: it failed."""
        with self._lock:
            self._all = [one for one in self._all if one is not env]
        dispose(env)

    @contextmanager
    def lent(self, env_id: str) -> Iterator[TextEnv]:
        """One to use within the block; an exception that leaves the block throws it away."""
        env = self.take(env_id)
        try:
            yield env
        except BaseException:
            self.throw_away(env)
            raise
        self.give(env_id, env)

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for one of them, or for one that is being made, gets `error` now, and whoever wants one."""
        with self._lock:
            self._given_up = error
            workers = [*self._making, *(getattr(env, "worker", None) for env in self._all)]
        for worker in workers:
            if isinstance(worker, Worker):
                worker.give_up(error)

    def close(self) -> None:
        """Close all, whatever they say to that."""
        with self._lock:
            closing, self._all, self._idle = self._all, [], {}
        for env in closing:
            dispose(env)
