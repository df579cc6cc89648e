"""What models take while something is done that does not tell of it itself, such as a reflection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from memory.records import Usage


class Meter:
    """Sums up what was used."""

    def __init__(self) -> None:
        self.usage = Usage()


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """Sums up what a `Model` takes in this thread within the block."""
    meter = Meter()
    before = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(before)


def count(usage: Usage) -> None:
    """Tell the meter, where there is one."""
    if (meter := _METER.get()) is not None:
        meter.usage += usage
