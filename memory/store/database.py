"""The SQLite file in which everything is kept: the only truth, from which every cache can be made again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from memory.clock import follow
from memory.store.connection import BUSY_SECONDS, Connection
from memory.store.documents import Documents
from memory.store.episodes import Episodes
from memory.store.events import Events
from memory.store.inbox import Inbox
from memory.store.journal import Journal
from memory.store.links import Links
from memory.store.listing import EpisodeListing
from memory.store.operations import Operations
from memory.store.origins import Origins
from memory.store.recalls import Recalls
from memory.store.reflections import Reflections
from memory.store.settings import Settings
from memory.store.tool_uses import ToolUses
from memory.store.vectors import Vectors
from memory.store.versions import Versions


class Database:
    """A lab's database: one connection, and a repository for each noun over it.

    `Database(path)` makes the file if there is none and brings an older one up to date, after a copy; `readonly=True`
    does neither, and `guest=True` is for a row beside another process (see `Connection`).
    Threads may share one object, processes open one each: many may read while one writes. Several writes that belong
    together go into one `with database.transaction():`, whichever repositories they are made through.

    Attributes:
        connection: where SQL is run.
        episodes, reflections, versions, recalls, links, operations: the memory.
        episode_listing: episodes for whoever looks through them.
        tool_uses: what the tools of games were in episodes.
        origins: what is on probation, and who brought it.
        vectors: a cache of what an embedder gave for texts.
        journal, settings: what a program notes of its own work.
        events: how far it says that it is.
        inbox: what others ask of whoever writes.
        rounds, evaluations: what it found out. They stand here since lower floors read what higher ones write.

    Raises:
        MemoryStoreError: `NotADatabase`, `DamagedDatabase`, `DatabaseMissing`, `OlderDatabase`, `NewerDatabase`,
            `CannotMigrate` on opening; `DatabaseBusy`, `DiskFull`, `ReadOnlyDatabase`, `DatabaseClosed` at any time.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        readonly: bool = False,
        guest: bool = False,
        busy_timeout: float = BUSY_SECONDS,
        notify: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.connection = Connection(path, readonly=readonly, guest=guest, busy_timeout=busy_timeout, notify=notify)
        self.episodes = Episodes(self.connection)
        self.episode_listing = EpisodeListing(self.connection)
        self.operations = Operations(self.connection)
        self.versions = Versions(self.connection, self.operations)
        self.reflections = Reflections(self.connection, self.versions)
        self.recalls = Recalls(self.connection)
        self.origins = Origins(self.connection)
        self.tool_uses = ToolUses(self.connection)
        self.links = Links(self.connection, self.operations)
        self.vectors = Vectors(self.connection)
        self.journal = Journal(self.connection)
        self.settings = Settings(self.connection)
        self.events = Events(self.connection)
        self.inbox = Inbox(self.connection)
        self.rounds = Documents(self.connection, "rounds")
        self.evaluations = Documents(self.connection, "evaluations")
        if not guest:  # whose file may be of another version
            follow(self._latest())

    def transaction(self) -> AbstractContextManager[Connection]:
        """All or nothing: what is written inside is kept at its end, or undone if an exception leaves it.

        Inside another transaction it is a part of that one, which can be undone by itself. Other threads wait.
        """
        return self.connection.transaction()

    def copy(self, target: Path) -> None:
        """Copy what is kept by now into a file, which is new. Others may go on writing to this one.

        What was asked for and not done yet counts as done in it: it is done here.
        """
        self.connection.copy(target)
        with Database(target) as copied:
            while (asked := copied.inbox.next()) is not None:
                copied.inbox.settle(asked.number, outcome="Done where it was asked for.")

    def _latest(self) -> str:
        """The newest moment of what was learned, done or begun; an empty text where nothing was."""
        newest = (
            f"ifnull((SELECT {moment} FROM {table} ORDER BY number DESC LIMIT 1), '')"
            for table, moment in (("reflections", "created_at"), ("operations", "at"), ("journal", "at"))
        )
        return str(self.connection.execute(f"SELECT max({', '.join(newest)})")[0][0])

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
