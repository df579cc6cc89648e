"""Moments as a person types them, and as they are stored: UTC, ISO 8601, microseconds, so that text sorts as time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from memory import errors

START = "1970-01-01T00:00:00.000000+00:00"
"""Before anything that is kept."""

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(min|m|h|d|w)(?:\s+ago)?")
_UNITS = {"min": "minutes", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def stored(text: str) -> str:
    """An ISO 8601 time with its zone, in the form in which times are stored. Raises ValueError if it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"'{text}' has no time zone")
    return _text(moment)


def seconds(text: str) -> float:
    """A stored time in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def typed(text: str, present: str) -> str:
    """The moment that a person means, as it is stored.

    Understands `now`, `start` (before everything), `90m`, `12h`, `3d` and `2w` (so long before `present`, a stored
    time), a date (its first instant) and an ISO 8601 time. Without a zone the zone of this machine is meant.

    Raises:
        BadMoment: if it is none of these.
    """
    wanted = text.strip().lower()
    if wanted == "now":
        return present
    if wanted == "start":
        return START
    try:
        if ago := _AGO.fullmatch(wanted):
            return _text(datetime.fromisoformat(present) - timedelta(**{_UNITS[ago[2]]: float(ago[1])}))
        return _text(datetime.fromisoformat(text.strip()).astimezone())
    except (ValueError, OverflowError) as error:
        raise errors.BadMoment(
            f"'{text}' is no moment; write a date (2026-11-01), a time (2026-11-01T18:30), how long ago (90m, 12h, 3d, "
            "2w), start, or now."
        ) from error


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
