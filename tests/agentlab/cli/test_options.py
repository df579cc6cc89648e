"""What a person types is understood, or refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentlab.cli.options import DEFAULT_LAB, command_line, moment
from memory.errors import BadMoment


@pytest.mark.parametrize("given", ["2026-11-01", "2026-11-01T18:30", "2026-11-01 18:30:05"])
def test_a_date_is_meant_in_the_persons_own_time(given: str) -> None:
    assert moment(given) == datetime.fromisoformat(given).astimezone(UTC).isoformat(timespec="microseconds")


def test_a_time_zone_is_kept_to() -> None:
    assert moment("2026-11-01T18:30+02:00") == "2026-11-01T16:30:00.000000+00:00"


@pytest.mark.parametrize(
    ("given", "ago"),
    [("90m", timedelta(minutes=90)), ("12h", timedelta(hours=12)), (" 3d ", timedelta(days=3)),
     ("1.5w", timedelta(weeks=1.5))],
)  # fmt: skip
def test_an_age_is_counted_back_from_now(given: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    meant = moment(given)
    assert meant is not None
    assert before <= datetime.fromisoformat(meant) + ago <= datetime.now(UTC)


def test_nothing_given_is_no_moment() -> None:
    assert moment(None) is None


@pytest.mark.parametrize("given", ["", " ", "soon", "d", "3", "3y", "2026-13-01", "99999999999d", "-1e400d", "nand"])
def test_what_is_no_moment_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(BadMoment, match="is no moment; write a date") as raised:
        moment(given)
    assert "\n" not in str(raised.value)


def test_a_command_to_type_names_the_lab_unless_it_is_the_usual_one() -> None:
    assert command_line(DEFAULT_LAB, "replay", "an id") == "agentlab replay 'an id'"
    assert command_line(Path("my lab"), "episodes") == "agentlab episodes --lab 'my lab'"
