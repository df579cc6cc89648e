"""Moments: what a person types becomes a stored time."""

from __future__ import annotations

import pytest

from memory.errors import BadMoment
from memory.text import moments

PRESENT = "2026-03-10T12:00:00.000000+00:00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", PRESENT),
        ("start", moments.START),
        ("90min", "2026-03-10T10:30:00.000000+00:00"),
        ("90m", "2026-03-10T10:30:00.000000+00:00"),
        ("12h", "2026-03-10T00:00:00.000000+00:00"),
        (" 3d ago ", "2026-03-07T12:00:00.000000+00:00"),
        ("0.5w", "2026-03-07T00:00:00.000000+00:00"),
        ("2026-03-01T12:30+02:00", "2026-03-01T10:30:00.000000+00:00"),
        ("2026-03-01T12:30:00Z", "2026-03-01T12:30:00.000000+00:00"),
    ],
)
def test_a_time_may_be_typed_in_many_forms(text: str, expected: str) -> None:
    assert moments.typed(text, PRESENT) == expected


def test_a_date_is_its_first_instant_where_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        assert moments.typed("2026-03-01", PRESENT) == "2026-02-28T21:00:00.000000+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "yesterday", "3 moons", "99999999999d", "2026-13-01", " ", "-1h", "nand"])
def test_what_is_no_time_is_answered_with_the_forms(text: str) -> None:
    with pytest.raises(BadMoment, match="write a date"):
        moments.typed(text, PRESENT)


def test_a_stored_time_needs_a_zone_and_is_left_as_it_is() -> None:
    assert moments.stored(PRESENT) == PRESENT
    assert moments.stored("2026-03-10T14:00:00+02:00") == PRESENT
    with pytest.raises(ValueError, match="zone"):
        moments.stored("2026-03-10T12:00:00")
