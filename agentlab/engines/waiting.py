"""Waiting for somebody else, such as a server, which somebody may give up for all who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from agentlab.tracing import carried

Answer = TypeVar("Answer")


class Waiters:
    """All who wait for one server. It may be used by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up: Future[None] = Future()

    @property
    def given_up(self) -> Future[None]:
        """What whoever begins to wait now hears by that it was given up; its result raises why."""
        with self._lock:
            return self._given_up

    def give_up(self, error: BaseException) -> None:
        """Whoever waits gets `error` now. Who begins to wait afterwards waits again."""
        with self._lock:
            given_up, self._given_up = self._given_up, Future()
        given_up.set_exception(error)


def paused(given_up: Future[None], seconds: float) -> None:
    """Wait so long. Raises what it was given up by."""
    wait({given_up}, timeout=max(seconds, 0.0))
    heard(given_up)


def heard(given_up: Future[None]) -> None:
    """Raise what it was given up by, if it was."""
    if given_up.done():
        given_up.result()


def waited(call: Callable[[], Answer], given_up: Future[None], seconds: float | None = None) -> Answer:
    """What `call` gives, in a thread that is left alone where that takes longer, or was given up.

    Raises TimeoutError after `seconds`, and what it was given up by.
    """
    done: Future[Answer] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=carried(work), daemon=True, name="waited").start()
    either: set[Future[Any]] = {done, given_up}
    wait(either, timeout=None if seconds is None else max(seconds, 0.0), return_when=FIRST_COMPLETED)
    heard(given_up)
    if not done.done():
        raise TimeoutError(f"nothing came within {seconds:.0f} s")
    return done.result()
