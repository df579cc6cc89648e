"""Who waits for somebody else, alone or beside others, hears when that is given up."""

from __future__ import annotations

import threading

import pytest

from agentlab.engines.beside import beside
from agentlab.engines.waiting import Waiters, heard, paused, waited
from agentlab.errors import Stopped


def test_what_comes_in_time_is_given_and_what_fails_raises() -> None:
    waiters = Waiters()
    assert waited(lambda: 3, waiters.given_up) == 3
    with pytest.raises(KeyError):
        waited(lambda: {}[1], waiters.given_up, 60)
    with pytest.raises(TimeoutError, match="within 0 s"):
        waited(threading.Event().wait, waiters.given_up, 0)


def test_whoever_waits_is_told_and_who_begins_afterwards_waits_again() -> None:
    waiters = Waiters()
    before = waiters.given_up
    waiters.give_up(Stopped("Enough."))
    for wait in (lambda: heard(before), lambda: paused(before, 60), lambda: waited(threading.Event().wait, before)):
        with pytest.raises(Stopped, match="Enough"):
            wait()
    heard(waiters.given_up)
    paused(waiters.given_up, 0)
    assert waited(lambda: 3, waiters.given_up) == 3


def test_requests_are_under_way_beside_each_other_and_answered_in_order() -> None:
    together = threading.Barrier(3, timeout=30)

    def answer(request: int) -> int:
        together.wait()
        return -request

    assert beside(answer, [1, 2, 3], 3) == [-1, -2, -3]
    assert beside(lambda request: -request, list(range(20)), 2) == [-one for one in range(20)]
    assert beside(answer, [], 3) == []


def test_what_one_that_fails_raises_is_raised_and_what_has_not_begun_is_not_asked() -> None:
    asked, others = list[int](), threading.Event()

    def answer(request: int) -> int:
        asked.append(request)
        if request == 1:
            raise ValueError("one")
        if request > 1:
            others.set()
        others.wait(0.2)  # the first is still under way when the second fails
        return request

    with pytest.raises(ValueError, match="one"):
        beside(answer, [0, 1, 2, 3, 4], 2)
    assert sorted(asked) == [0, 1]
