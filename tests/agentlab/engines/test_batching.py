"""What episodes ask beside each other is gathered; nobody waits for ever, and who asks wrongly fails alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentlab.engines import batching
from agentlab.engines.batching import Batcher

SOON = 20.0
"""Seconds within which what has to happen happens."""


class Doubling:
    """Doubles numbers, and keeps what it was asked at once."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []

    def double(self, requests: Sequence[int]) -> list[int]:
        self.lists.append(list(requests))
        if 13 in requests:
            raise ValueError("unlucky")
        return [2 * request for request in requests]

    def triple(self, requests: Sequence[int]) -> list[int]:
        return [3 * request for request in requests]


def beside(batcher: Batcher, works: Sequence[Callable[[], object]]) -> list[object]:
    """What episodes that are all in flight before one asks come to: results, or the errors that they end with."""
    ready = threading.Barrier(len(works))

    def played(work: Callable[[], object]) -> object:
        with batcher.episode():
            ready.wait(SOON)
            try:
                return work()
            except Exception as error:
                return error

    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result(SOON) for future in [threads.submit(played, work) for work in works]]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks before all have, or one left."""
    monkeypatch.setattr(batching, "PATIENCE", SOON / 2)


@pytest.mark.usefixtures("patient")
def test_episodes_in_flight_are_answered_together_and_each_gets_its_own() -> None:
    batcher, engine = Batcher(), Doubling()
    works = [lambda at=at: batcher(engine.double, at) for at in range(8)]  # type: ignore[misc]
    assert beside(batcher, works) == [2 * at for at in range(8)]
    assert [sorted(one) for one in engine.lists] == [list(range(8))]


@pytest.mark.usefixtures("patient")
def test_one_that_ends_is_waited_for_no_longer() -> None:
    batcher, engine = Batcher(), Doubling()
    asked = [lambda at=at: batcher(engine.double, at) for at in range(3)]  # type: ignore[misc]
    assert beside(batcher, [*asked, lambda: "ended"]) == [0, 2, 4, "ended"]


def test_one_that_does_not_ask_is_waited_for_a_moment_only() -> None:
    batcher, engine, answered = Batcher(), Doubling(), threading.Event()

    def slow() -> bool:
        return answered.wait(SOON)

    def quick() -> int:
        answer = batcher(engine.double, 4)
        answered.set()
        return answer

    assert beside(batcher, [slow, quick]) == [True, 8]


@pytest.mark.usefixtures("patient")
def test_one_episode_alone_or_none_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, engine = Batcher(), Doubling()
    monkeypatch.setattr(batcher._turn, "wait", lambda *_: pytest.fail("it waited"))
    assert batcher(engine.double, 1) == 2
    with batcher.episode():
        assert batcher(engine.double, 2) == 4


def test_a_long_pass_makes_nobody_wait_long_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, engine, waits = Batcher(), Doubling(), list[float]()

    def gone(seconds: float) -> None:
        waits.append(seconds)
        batcher.flying = 1

    batcher._took = 600.0
    monkeypatch.setattr(batcher._turn, "wait", gone)
    with batcher.episode():
        batcher.flying = 2
        assert batcher(engine.double, 1) == 2
    assert len(waits) == 1 and waits[0] <= 0.1


@pytest.mark.usefixtures("patient")
def test_who_asks_wrongly_fails_alone() -> None:
    batcher, engine = Batcher(), Doubling()
    works = [lambda at=at: batcher(engine.double, at) for at in (12, 13, 14)]  # type: ignore[misc]
    first, second, third = beside(batcher, works)
    assert (first, third) == (24, 28)
    assert isinstance(second, ValueError) and str(second) == "unlucky"
    assert batcher(engine.double, 5) == 10  # and it goes on


@pytest.mark.usefixtures("patient")
def test_what_is_asked_of_different_things_goes_to_each() -> None:
    batcher, engine = Batcher(), Doubling()
    works = [lambda at=at: batcher([engine.double, engine.triple][at % 2], at) for at in range(4)]  # type: ignore[misc]
    assert beside(batcher, works) == [0, 3, 4, 9]


def test_another_number_of_answers_is_noticed() -> None:
    with pytest.raises(ValueError, match="2 answers to 1"):
        Batcher()(lambda requests: [*requests, 0], 1)


@pytest.mark.usefixtures("patient")
def test_whoever_is_interrupted_while_it_waits_is_not_answered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, engine = Batcher(), Doubling()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with batcher.episode(), batcher.episode(), monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batcher._turn, "wait", interrupted)
        batcher(engine.double, 1)
    assert batcher(engine.double, 2) == 4
    assert engine.lists == [[2]]
