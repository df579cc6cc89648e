"""Requests of episodes that play beside each other, gathered into lists for an engine that reads many at once.

Whoever asks waits until all episodes in flight have asked, or a moment has passed; one of those who wait then asks for
all. An episode alone never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")

PATIENCE = 0.005
"""Seconds that whoever asked waits for the others, at least."""

SHARE = 0.1
"""The share of what the last answers took that whoever asked waits for the others: a longer pass is worth more."""

MOST = 0.1
"""Seconds that this share may come to: one long pass makes nobody wait long at the next."""


@dataclass(eq=False)
class _Asked:
    """A request, and what came of it."""

    ask: Callable[[Sequence[Any]], Sequence[Any]]
    request: Any
    answer: Any = None
    error: BaseException | None = None
    done: bool = False


@dataclass
class Batcher:
    """Gathers requests. Episodes that are in flight say so (`episode`); whoever is in none asks as if it were."""

    flying: int = 0
    _turn: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _waiting: list[_Asked] = field(default_factory=list, repr=False)
    _busy: bool = False
    _ended: float = 0.0
    _took: float = 0.0

    @contextmanager
    def episode(self) -> Iterator[None]:
        """While open, one more episode may ask."""
        with self._turn:
            self.flying += 1
        try:
            yield
        finally:
            with self._turn:
                self.flying -= 1
                self._turn.notify_all()  # who waited for it waits no longer

    def __call__(self, ask: Callable[[Sequence[Request]], Sequence[Answer]], request: Request) -> Answer:
        """The answer to `request` by `ask`, which may be given those of others with it.

        Raises what `ask` does about this request alone, ValueError if it answers another number of requests.
        """
        asked = _Asked(ask, request)
        with self._turn:
            self._waiting.append(asked)
            self._turn.notify_all()
            try:
                self._until(asked)
            except BaseException:  # Ctrl-C, while waiting
                self._waiting = [one for one in self._waiting if one is not asked]
                raise
        if asked.error is not None:
            raise asked.error
        answer: Answer = asked.answer
        return answer

    def _until(self, asked: _Asked) -> None:
        """Wait until this is answered, or answer it with all that wait."""
        since = time.monotonic()
        while not asked.done:
            if self._busy:
                self._turn.wait()
                continue
            left = max(since, self._ended) + max(PATIENCE, min(SHARE * self._took, MOST)) - time.monotonic()
            if left <= 0 or len(self._waiting) >= self.flying:
                self._lead()
            else:
                self._turn.wait(left)

    def _lead(self) -> None:
        """Ask for all who wait."""
        gathered, self._waiting, self._busy = self._waiting, [], True
        began = time.monotonic()
        self._turn.release()
        try:
            for ask in dict.fromkeys(asked.ask for asked in gathered):
                _answer(ask, [asked for asked in gathered if asked.ask == ask])
        finally:
            self._turn.acquire()
            self._busy, self._ended = False, time.monotonic()
            self._took = self._ended - began
            for asked in gathered:
                asked.done = True
            self._turn.notify_all()


def _answer(ask: Callable[[Sequence[Any]], Sequence[Any]], gathered: Sequence[_Asked]) -> None:
    """Have all answered together; where that fails, each alone, so that who made it fail fails alone."""
    try:
        answers = answered(ask, [asked.request for asked in gathered])
    except BaseException as error:
        if len(gathered) > 1 and isinstance(error, Exception):
            for asked in gathered:
                _answer(ask, [asked])
            return
        for asked in gathered:
            asked.error = error
        return
    for asked, answer in zip(gathered, answers, strict=True):
        asked.answer = answer


def answered(ask: Callable[[Sequence[Request]], Sequence[Answer]], requests: Sequence[Request]) -> Sequence[Answer]:
    """The answers to these requests. Raises ValueError if there are more or fewer of them."""
    answers = ask(requests)
    if len(answers) != len(requests):
        raise ValueError(f"{len(answers)} answers to {len(requests)} requests")
    return answers
