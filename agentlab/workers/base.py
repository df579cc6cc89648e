"""What is asked of a worker, and the seats in which workers are replaced when they die."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import Any, cast

from agentlab.errors import AgentLabError

Made = tuple[str, tuple[Any, ...]]
"""What a worker holds: a class as `module:name`, and what it is made with."""


class WorkerDied(AgentLabError):
    """A worker ended while it was asked for something, which is lost."""


class NoRoom(AgentLabError):
    """A worker cannot begin, since there is no longer a processor for it."""


class Worker(ABC):
    """One object in another process, which is made there.

    Attributes:
        ready_for: what whoever asks it has made it ready for; of a new one, nothing.
    """

    def __init__(self) -> None:
        self.ready_for: Any = None

    @abstractmethod
    def call(self, method: str, *args: Any) -> Any:
        """What a method of its object gives.

        Raises what that raises, WorkerDied if the process ends meanwhile, NoRoom if it cannot begin.
        """

    @abstractmethod
    def kill(self) -> None:
        """End it, whatever it does. Who waits for it gets WorkerDied."""


class Seat:
    """The place of one worker, which is started when it is first asked, and anew when it has died."""

    def __init__(self, start: Callable[[], Worker]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        """Who sits here."""
        with self._lock:
            if self._worker is None:
                self._worker = self._start()
            return self._worker

    def empty(self) -> None:
        """End the worker, if there is one; the next question is for a new one."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()


class Workers:
    """So many workers, lent to one thread each.

    Attributes:
        count: how many.
        threads: processor threads of each, where the settings of a lab say nothing.
        place: the folder for what is temporary, which is gone with them; None: the usual one.

    Args:
        start: starts one.
        pack: makes of a folder what can be sent to each; `received` takes it there.
        leave: what is to be done when all have ended.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[], Worker],
        *,
        threads: int = 1,
        place: str | None = None,
        pack: Callable[[Path], Any] | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.count = count
        self.threads = threads
        self.place = place
        self._pack = pack
        self._leave = leave
        self._seats = [Seat(start) for _ in range(count)]
        self._closing = threading.Lock()
        self._instead: dict[Seat, Seat | None] = {}
        # Who has loaded a model already is asked first.
        self._free: LifoQueue[Seat | None] = LifoQueue()
        for seat in reversed(self._seats):
            self._free.put(seat)

    @contextmanager
    def lend(self) -> Iterator[Seat]:
        """A seat, for as long as one wants; waits for one that is free. Raises NoRoom if none is left."""
        seat: Seat | None = self._taken()
        try:
            yield cast("Seat", seat)
        finally:
            while seat in self._instead:
                seat = self._instead.pop(seat)
            if seat is not None:
                self._free.put(seat)

    def instead(self, seat: Seat) -> Seat:
        """Another seat in place of one that was lent and in which nobody can sit any more; waits for one that is free.

        It is given back in place of that. Raises NoRoom if none is left.
        """
        seat.empty()
        with self._closing:
            self._instead[seat] = None
            self.count -= 1
            if not self.count:
                self._free.put(None)  # whoever waits is told, one by the other
        self._instead[seat] = other = self._taken()
        return other

    def _taken(self) -> Seat:
        seat = self._free.get()
        if seat is None:
            self._free.put(None)
            raise NoRoom("No worker is left; the same command goes on where there are some.")
        return seat

    def share(self, folder: Path) -> Any:
        """What is sent to each worker, that it finds there what `folder` holds."""
        return self._pack(folder) if self._pack is not None else folder

    def give_up(self) -> None:
        """End all that work: who waits for an answer gets WorkerDied, and whoever asks later a new worker."""
        with ThreadPoolExecutor(len(self._seats)) as ending:  # each may take seconds
            list(ending.map(Seat.empty, self._seats))

    def close(self) -> None:
        """End all, for good."""
        self.give_up()
        if self._leave is not None:
            self._leave()


def packed(folder: Path) -> bytes:
    """A folder as one piece, with what its links lead to."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
        archive.add(folder, arcname=".")
    return content.getvalue()


def received(shared: Any, folder: Path) -> None:
    """Lay what was shared into `folder`, which is new."""
    if isinstance(shared, bytes):
        with tarfile.open(fileobj=io.BytesIO(shared)) as archive:
            archive.extractall(folder, filter="data")
    else:
        shutil.copytree(shared, folder, symlinks=True)
