"""Folding: whoever holds a lab's lock does the small changes that others ask for in its inbox, each exactly once.

They are done over a connection of their own, as another process would do them. So the work of the lab's own connection
never has a part in them: none of its transactions, operations or batches takes one in, and what it keeps of the memory
it makes anew, as it does after anybody's change. Play reads what it needs at the beginning of an episode, and goes by
what was known when its run began; what is decided by a longer look is looked at again within its transaction. While
arms that recall are measured side by side, nothing is folded in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import ref

from agentlab.errors import AgentLabError
from agentlab.terminal import one_line
from agentlab.workspace.config import LabConfig
from agentlab.workspace.requests import request_of
from environments.errors import EnvironmentsError
from memory import errors
from memory.store import Database

APART = 1.0
"""Seconds between two looks into the inbox."""
LINE = 1000
"""Characters of a refusal."""

_LATER = (
    errors.DatabaseBusy,
    errors.DatabaseClosed,
    errors.DamagedDatabase,
    errors.DiskFull,
    errors.NotADatabase,
    errors.ReadOnlyDatabase,
)
"""What says nothing of a request: it waits until the file can be written again."""


class Folding:
    """Looks into the inbox of the database in `path`, for as long as this process holds the lab's lock;
    `config` are the lab's settings as they stand in its folder.

    Nothing that is asked for, and nothing that goes wrong with it, disturbs the work of the lab. A database that is not
    there, or of another version, has no inbox yet.
    """

    def __init__(self, path: Path, config: LabConfig) -> None:
        self.path = path
        self.config = config
        self._database: Database | None = None
        self._rests = 0
        self._ended = threading.Event()
        # Of a lab that nobody has any more, and nobody closed, nothing is left that looks.
        self._thread = threading.Thread(target=_look, args=(ref(self), self._ended), name="inbox", daemon=True)

    def begin(self) -> None:
        """Do what waits, and from now on what comes."""
        self.fold()
        self._thread.start()

    def close(self) -> None:
        """Do what came until now, and look no more. To be called with the lock, after all other work."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.fold()
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is folded in meanwhile: what is measured side by side plays with one memory."""
        self._rests += 1
        try:
            yield
        finally:
            self._rests -= 1

    def fold(self) -> None:
        """Do what waits now, in its order."""
        if self._rests:
            return
        with suppress(errors.MemoryStoreError, OSError):
            database = self._opened()
            if database is None:
                return
            last = database.inbox.last()  # what comes meanwhile is done the next time
            while last and self._settled(database, last):
                pass

    def _opened(self) -> Database | None:
        if self._database is None and self.path.exists():
            self._database = Database(self.path, guest=True)
        return self._database

    def _settled(self, database: Database, last: int) -> bool:
        """Do the first that waits, up to number `last`, and mark it as done, or as refused: both or neither. False if
        none waits."""
        with database.transaction():
            entry = database.inbox.next()
            if entry is None or entry.number > last:
                return False
            try:
                # A part of its own: what a refusal leaves undone is undone, and its mark stays.
                with database.transaction(), database.operations.asked(entry.asked_by):
                    outcome = request_of(entry).apply(database, entry.asked_by, self.config)
            except _LATER:
                raise
            except Exception as error:
                database.inbox.settle(entry.number, outcome=type(error).__name__, refusal=_line(error))
            else:
                database.inbox.settle(entry.number, outcome=outcome.model_dump_json())
        return True


def _look(folding: ref[Folding], ended: threading.Event) -> None:
    while not ended.wait(APART):
        found = folding()
        if found is None:
            return
        found.fold()
        del found


def _line(error: Exception) -> str:
    if isinstance(error, (AgentLabError, EnvironmentsError, errors.MemoryStoreError)):
        return one_line(str(error), LINE)
    return one_line(f"This could not be done ({type(error).__name__}: {error}); nothing was changed.", LINE)
