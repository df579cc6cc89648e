"""Progress that is also written into the lab, so that who looks on from another process sees how far work is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentlab.progress import Progress
from memory.errors import MemoryStoreError

if TYPE_CHECKING:
    from memory.store import EventKind, Events

APART = 1.0
"""Seconds between two events of a stage: as fine as a person can follow, and a write that nothing else waits for."""

NOTE = 300
"""Characters of a note that are kept."""


@dataclass
class _Stage:
    total: int
    done: int = 0
    told: float = 0.0


class Recorded(Progress):
    """Tells `drawn`, and adds an event for those who look on.

    `events` gives the table once the lab's database is open; until then nothing is written. An event that cannot be
    written (a full disk, a busy file) is left out: no work ever fails by it.
    """

    def __init__(
        self, drawn: Progress, events: Callable[[], Events | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.drawn = drawn
        self._events = events
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._lock = threading.Lock()

    def say(self, message: str) -> None:
        self.drawn.say(message)
        self._put("say", note=message)

    def start(self, stage: str, total: int) -> None:
        self.drawn.start(stage, total)
        with self._lock:
            self._stages[stage] = _Stage(total, told=self._clock())
        self._put("start", stage, 0, total)

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        self.drawn.advance(stage, units, note)
        with self._lock:
            at = self._stages.get(stage)
            if at is None:
                return
            at.done += units
            present = self._clock()
            if present - at.told < APART:
                return
            at.told, done, total = present, at.done, at.total
        self._put("advance", stage, done, total, note)

    def finish(self, stage: str, note: str = "") -> None:
        self.drawn.finish(stage, note)
        with self._lock:
            at = self._stages.pop(stage, None)
        if at is not None:
            self._put("finish", stage, at.done, at.total, note)

    def close(self) -> None:
        self.drawn.close()

    def _put(self, kind: EventKind, stage: str = "", done: int = 0, total: int = 0, note: str = "") -> None:
        events = self._events()
        if events is None:
            return
        try:
            events.put(kind, stage, done, total, note[:NOTE])
        except (MemoryStoreError, ValueError, OverflowError):  # halves of characters, numbers beyond SQLite's
            return
