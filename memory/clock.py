"""The time as it is stored everywhere: that of the machine, but never earlier than what a lab has been told before.

What is recalled goes by what was known when a run began. Where a machine's clock is set back, time goes on from the
newest stored moment, by microseconds, until the clock has come up to it again: the physical half of a hybrid logical
clock (Kulkarni et al. 2014). The order of what happened is kept, while ages are too small for so long.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

_TICK = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=366)
"""A moment that no clock can be behind of: whoever writes a later one into a file does not stop time."""

_told = datetime.min.replace(tzinfo=UTC)
_telling = threading.Lock()


def now() -> str:
    """The present moment, later than any that was told or followed before (UTC, ISO 8601, microseconds)."""
    global _told
    with _telling:
        _told = max(datetime.now(UTC), _told + _TICK)
        return _told.isoformat(timespec="microseconds")


def follow(moment: str) -> None:
    """Let what comes be later than a moment that is stored (ISO 8601 with its zone); what is none is passed over."""
    global _told
    try:
        stored = datetime.fromisoformat(moment)
    except ValueError:
        return
    if stored.tzinfo is not None and stored < _LAST:
        with _telling:
            _told = max(_told, stored.astimezone(UTC))
