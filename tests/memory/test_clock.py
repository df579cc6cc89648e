"""The time of a lab goes on where a machine's clock is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memory import clock
from memory.records import Reflection
from memory.store import Database


class Clock:
    """A clock of the machine that is off by so much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off = timedelta()
        mine = self

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.now(tz) + mine.off

        monkeypatch.setattr(clock, "datetime", Shifted)
        self._patch = monkeypatch

    def restart(self, off: timedelta) -> None:
        """Another process, which has been told no time yet, on a machine whose clock is off by so much."""
        self.off = off
        self._patch.setattr(clock, "_told", datetime.min.replace(tzinfo=UTC))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this machine, to be set."""
    told = clock._told
    monkeypatch.setattr(clock, "_told", told)  # as it was, afterwards
    return Clock(monkeypatch)


def test_each_moment_is_later_than_the_one_before_though_the_clock_is_set_back(machine: Clock) -> None:
    first = clock.now()
    machine.off = timedelta(days=-3)
    second, third = clock.now(), clock.now()
    assert first < second < third


def test_the_time_is_the_machines_again_once_it_has_come_up(machine: Clock) -> None:
    machine.restart(timedelta(hours=-1))
    clock.follow((datetime.now(UTC) - timedelta(minutes=30)).isoformat())
    machine.off = timedelta()
    assert abs(datetime.fromisoformat(clock.now()) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_lab_that_is_opened_with_a_clock_set_back_goes_on_from_its_newest_moment(
    machine: Clock, tmp_path: Path
) -> None:
    with Database(tmp_path / "memory.db") as database:
        database.reflections.put(Reflection(id="rf-1", kind="note", env="", task="", text="Read."))
        database.journal.put("run", "first", {})
    machine.restart(timedelta(days=-400))
    with Database(tmp_path / "memory.db") as database:
        begun = clock.now()
        assert database.reflections.newest(begun) == 1, "what was learned lies before what begins now"


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-11-30T10:00:00", "9999-12-31T23:59:59+00:00", "0001-01-01"])
def test_what_is_no_moment_of_ours_does_not_stop_the_time(machine: Clock, moment: str) -> None:
    machine.restart(timedelta())
    clock.follow(moment)
    assert abs(datetime.fromisoformat(clock.now()) - datetime.now(UTC)) < timedelta(minutes=1)
