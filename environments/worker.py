"""The thread in which an environment's code runs, so that nobody waits for ever for what may never answer.

An environment is somebody else's program. It may hang, leave (`sys.exit`) or raise what it likes. Its calls are made
in a daemon thread of its own: who waits for one can stop waiting, and the program can end while one hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from environments.errors import EnvironmentDied, EnvironmentHung

CLOSE_LIMIT = 3.0
"""Seconds that an environment may take to close; who gives it up waits no longer."""

NOTICE = 0.5
"""Seconds after which at the latest who waits for an answer notices a Ctrl-C."""

Result = TypeVar("Result")
_Answer = tuple[Any, BaseException | None]


class Worker:
    """One environment's thread. It starts with the first call and ends when nobody holds the worker any more.

    Calls of one environment are made one after the other, so there is one question and one answer at a time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.given_up: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[_Answer] = SimpleQueue()

    def call(self, work: Callable[[], Result], limit: float) -> Result:
        """What `work` returns, or raises; it may take `limit` seconds.

        Raises:
            EnvironmentHung: if it takes longer. The worker is given up then, and every later call refused.
            EnvironmentDied: if it wanted to end the program (`sys.exit`, KeyboardInterrupt), which is not its to end.
        """
        if self._thread is threading.current_thread():  # the environment calls itself
            return work()
        if self.given_up is not None:
            raise self.given_up
        if self._thread is None or not self._thread.is_alive():  # at first, and in a process that was forked
            self._calls, self._answers = SimpleQueue(), SimpleQueue()
            if self.given_up is not None:  # it was told to queues that are gone
                raise self.given_up
            self._thread = threading.Thread(
                target=_serve, args=(self._calls, self._answers), name=f"environment {self.name}", daemon=True
            )
            self._thread.start()
        self._calls.put(work)
        try:
            value, error = self._answer(limit)
        except Empty:
            hung = EnvironmentHung(
                f"The environment `{self.name}` hung: a call took more than {limit:g} s; raise its `answer_limit` if "
                "it may take that long."
            )
            self.give_up(hung)
            raise hung from None
        except BaseException:  # Ctrl-C, while waiting
            self.give_up(EnvironmentDied(f"The environment `{self.name}` was left in the middle of a call."))
            raise
        if error is None:
            return value
        if isinstance(error, Exception) or error is self.given_up:
            raise error
        raise EnvironmentDied(
            f"The environment `{self.name}` wanted to end the program ({type(error).__name__}"
            f"{f': {format_error(error)}' if format_error(error) else ''}); raise another exception there."
        ) from error

    def _answer(self, limit: float) -> _Answer:
        """The answer, if it comes within `limit` seconds. Raises Empty."""
        until = time.monotonic() + min(limit, threading.TIMEOUT_MAX)  # nothing waits longer than the system can count
        while True:
            try:
                # A Ctrl-C that comes just before the waiting begins does not end it.
                return self._answers.get(timeout=max(0.0, min(until - time.monotonic(), NOTICE)))
            except Empty:
                if time.monotonic() >= until:
                    raise

    def give_up(self, error: BaseException) -> None:
        """Ask no more: who waits for an answer gets `error` now, and so does every later call."""
        if self.given_up is None:
            self.given_up = error
            self._calls.put(None)
            self._answers.put((None, error))

    def __reduce__(self) -> tuple[type[Worker], tuple[str]]:
        return Worker, (self.name,)  # a copy of an environment has a thread of its own

    def __del__(self) -> None:
        self._calls.put(None)


def _serve(calls: SimpleQueue[Callable[[], Any] | None], answers: SimpleQueue[_Answer]) -> None:
    while (work := calls.get()) is not None:
        try:
            answer: _Answer = (work(), None)
        except BaseException as error:
            answer = (None, error)
        answers.put(answer)
        del work, answer  # or the environment would live as long as its thread


def close(env: Any) -> None:
    """Close an environment. Raises what it raises, and EnvironmentHung if it hangs."""
    worker = getattr(env, "worker", None)
    if not isinstance(worker, Worker) or worker.given_up is not None:
        worker = Worker(str(getattr(env, "env_id", "")))
    worker.call(env.close, CLOSE_LIMIT)


def dispose(env: Any) -> None:
    """Close an environment that is of no further use. Whatever it raises then, or if it hangs, is of no consequence."""
    with suppress(Exception):
        close(env)


def format_error(error: BaseException) -> str:
    """What an exception says, on one line of at most 200 characters, in text that can be stored."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception of somebody's own may fail at that too
        return ""
    return text.encode(errors="replace").decode()[:200]
