"""One SQLite file, opened with care: checked, migrated, shared by threads, its errors put into words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from memory import errors
from memory.store import refusals, schema
from memory.store.words import index_texts, texts_indexed

if TYPE_CHECKING:
    import sqlite_utils

HEADER = b"SQLite format 3\x00"
BUSY_SECONDS = 30.0

# A process that closes a file anywhere gives back all that it has locked of it; another one then takes itself for the
# last, and deletes the log from under us. So a file that is open here is opened by nothing but SQLite.
_OPEN: weakref.WeakSet[Connection] = weakref.WeakSet()
_OPENING = threading.RLock()


class Connection:
    """A connection in write-ahead mode (one writer, many readers, safe against a kill at any instant).

    Threads may share it: one lock covers every statement, and a transaction from its first to its last. With
    `readonly` the file must exist and is never changed. `busy_timeout` (seconds) is how long a write waits for
    another process before `DatabaseBusy`.

    A file of an earlier version is migrated when it is opened for writing, after a copy was made beside it; a reader
    migrates a temporary copy, and reads that. `notify` is told of both in a line.

    A `guest` comes for a row or two, beside whoever has the file, which is neither made nor migrated for it.

    A reader is `frozen` if it does not see what others write later: one that reads such a copy, or in a folder where
    nobody could write when it was opened.

    Raises what `Database` does.
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
        self.path = Path(path)
        self.readonly = readonly
        self.guest = guest
        self._busy_timeout = busy_timeout
        self._notify = notify
        self._lock = threading.RLock()
        self._depth = 0
        self._owner = 0
        self._tidy = False
        self.frozen = False
        in_memory = str(path) == ":memory:"
        with _OPENING:
            if not in_memory:
                self._check_file()
            with self._errors_translated():
                self._connection = self._connect(in_memory)
            self._file = _identity(self.path)
            _OPEN.add(self)
        try:
            with self._errors_translated():
                self._prepare()
        except BaseException:
            self._connection.close()
            _OPEN.discard(self)
            raise

    # Opening

    @cached_property
    def tables(self) -> sqlite_utils.Database:
        """The tables as sqlite-utils has them, which makes and changes them."""
        import sqlite_utils

        # Plugins would run foreign code in every process that opens a lab.
        return sqlite_utils.Database(self._connection, recursive_triggers=False, execute_plugins=False)

    def _check_file(self) -> None:
        path = self.path
        if path.is_dir():
            raise errors.NotADatabase(f"{path} is a folder, not a database file; give the path of the file.")
        if not path.exists():
            if self.readonly or self.guest:
                raise errors.DatabaseMissing(f"There is no database at {path}; open it for writing once to make it.")
            path.parent.mkdir(parents=True, exist_ok=True)
            return
        if any(other._file == _identity(path) for other in _OPEN):
            return
        try:
            with path.open("rb") as file:
                start = file.read(100)
        except PermissionError as error:
            raise errors.NotADatabase(f"{path} cannot be read: permission denied; check who owns it.") from error
        log = path.with_name(path.name + "-wal")
        if not start:
            # SQLite would take an empty file for a new database and delete the log that may still hold everything.
            if log.exists() and log.stat().st_size:
                raise errors.DamagedDatabase(refusals.damage(path, "it is empty, but its write-ahead log is not"))
            return
        if not start.startswith(HEADER[: len(start)]):
            raise errors.NotADatabase(f"{path} is not an SQLite file; give the path of a lab's database.")
        if len(start) < 100:
            raise errors.DamagedDatabase(refusals.damage(path, "it ends within its header"))

    def _connect(self, in_memory: bool) -> sqlite3.Connection:
        # isolation_level=None: transactions begin and end only where this class says so.
        mode = "ro" if self.readonly else "rw" if self.guest else "rwc"
        target = ":memory:" if in_memory else f"{self.path.resolve().as_uri()}?mode={mode}"
        if self.readonly and not in_memory:
            log = self.path.with_name(self.path.name + "-wal")
            self._tidy = True
            if not log.exists() and not os.access(self.path.resolve().parent, os.W_OK):
                # Nobody can write there, so there is nothing to lock, and nowhere to put what locks are kept in.
                target += "&immutable=1"
                self.frozen = True
        return sqlite3.connect(
            target, uri=not in_memory, isolation_level=None, check_same_thread=False, timeout=self._busy_timeout
        )

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA foreign_keys = ON")
        # NORMAL survives a killed process; only a power cut may take the last transactions, never tear one.
        run("PRAGMA synchronous = NORMAL")
        # One recall from a large memory reads hundreds of pages. Mapped, each costs no call of the system.
        run("PRAGMA mmap_size = 1073741824")
        version = self._checked_version()
        if self.readonly:
            if version < schema.VERSION:
                self._read_migrated(version)
            return
        if self.guest:
            if version < schema.VERSION:
                raise errors.OlderDatabase(
                    f"{self.path} has version {version}, and this program writes {schema.VERSION}; any command that "
                    "changes the lab brings it up to date."
                )
            return
        self._write_ahead()
        if version < schema.VERSION:
            self._migrate()
        elif not texts_indexed(run):
            self.index_texts()

    def _write_ahead(self) -> None:
        """Turn the write-ahead log on. Two that do so at once to a new file: SQLite refuses one of them without a wait,
        and it tries again."""
        run, until = self._connection.execute, time.monotonic() + self._busy_timeout
        if run("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        while True:
            try:
                run("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _checked_version(self) -> int:
        run = self._connection.execute
        application = run("PRAGMA application_id").fetchone()[0]
        version = int(run("PRAGMA user_version").fetchone()[0])
        empty = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if application != schema.APPLICATION_ID and not (empty and application == 0 and version == 0):
            raise errors.NotADatabase(
                f"{self.path} is an SQLite database of another program; give the path of a lab's database."
            )
        if version > schema.VERSION:
            raise errors.NewerDatabase(
                f"{self.path} has version {version}, this program knows up to {schema.VERSION}; "
                "update the program (the file was not changed)."
            )
        return version

    def _migrate(self) -> None:
        with self.transaction():
            # Another process may have migrated while this one waited for the lock, so the version is read again.
            version = self._checked_version()
            if 0 < version < schema.VERSION and not self.readonly:
                self._copy_aside(version)
            for number in range(version, schema.VERSION):
                schema.MIGRATIONS[number](self.tables)
                self._connection.execute(f"PRAGMA user_version = {number + 1}")
            self._connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")

    def _copy_aside(self, version: int) -> None:
        """Copy the file to `lab.version-N.db` beside it, unless that is there. No other process can write meanwhile."""
        path = self.path
        target = path.with_name(f"{path.stem}.version-{version}{path.suffix}")
        if target.exists():
            return
        scratch = target.with_name(target.name + ".partial")
        try:
            scratch.unlink(missing_ok=True)
            # What writes cannot be copied from; a reader beside it can.
            source = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            with contextlib.closing(source), contextlib.closing(sqlite3.connect(scratch)) as copy:
                source.backup(copy)
                # One file, without a log beside it.
                copy.execute("PRAGMA journal_mode = DELETE")
            scratch.replace(target)
        except (sqlite3.Error, OSError) as error:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
            size = path.stat().st_size / 1e6
            raise errors.CannotMigrate(
                f"{path} has version {version}, and no copy of it could be made before it is brought up to "
                f"{schema.VERSION} ({error}); make room for {size:.1f} MB in a folder that you may write to. Nothing "
                "was changed."
            ) from error
        self._notify(f"{path.name} is brought up from version {version} to {schema.VERSION}; {target.name} is a copy.")

    def _read_migrated(self, version: int) -> None:
        """Read a migrated copy in a temporary file of SQLite's own, which goes with the connection."""
        copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.backup(copy)
        self._connection.close()
        self._connection, self.frozen = copy, True
        copy.execute("PRAGMA foreign_keys = ON")
        self._migrate()
        copy.execute("PRAGMA query_only = ON")
        if version:
            self._notify(
                f"{self.path.name} has version {version} and is read as a copy of version {schema.VERSION}; "
                "any command that changes the lab brings it up to date."
            )

    def copy(self, target: Path) -> None:
        """Copy what is kept by now into a file, which is new."""
        with self._lock, self._errors_translated(), contextlib.closing(sqlite3.connect(target)) as copy:
            self._connection.backup(copy)

    def index_texts(self) -> None:
        """Make the index of words anew from the texts of the reflections."""
        with self.transaction():
            index_texts(self.tables)

    def vacuum(self) -> bool:
        """Write the file anew, without what was deleted, and empty its log; False if a reader keeps the log from it."""
        with self._lock, self._errors_translated():
            self._connection.execute("VACUUM")
            return not self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file (`quick_check`); empty if nothing is."""
        return [str(row[0]) for row in self.execute("PRAGMA quick_check") if row[0] != "ok"]

    @property
    def mark(self) -> tuple[int, int]:
        """What differs as soon as anything was written, by this connection or by another one. Cheap."""
        with self._lock:
            return int(self.execute("PRAGMA data_version")[0][0]), self._connection.total_changes

    def size(self) -> int:
        """The bytes of the database, without its log."""
        return int(self.execute("PRAGMA page_count")[0][0]) * int(self.execute("PRAGMA page_size")[0][0])

    # Using

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows (a write outside a transaction is committed by itself)."""
        with self._lock:
            # Without `_worded`, which takes as long as a short statement.
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except (sqlite3.Error, *refusals.UNSTORABLE) as error:
                raise self._translated(error) from error

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one writing statement for each of `rows`, in one transaction."""
        with self.transaction():
            try:
                self._connection.executemany(sql, rows)
            except (sqlite3.Error, *refusals.UNSTORABLE) as error:
                raise self._translated(error) from error

    @property
    def in_transaction(self) -> bool:
        """True while this thread has a transaction open, so that what it reads may still be undone."""
        return self._depth > 0 and self._owner == threading.get_ident()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Self]:
        """All or nothing: what is written inside is kept at its end, or undone if an exception leaves it.

        Inside another transaction it is a part of that one, which can be undone by itself. Other threads wait.
        """
        with self._lock, self._errors_translated():
            level = self._depth
            name = f"level_{level}"
            # IMMEDIATE takes the write lock at once: a transaction that begins by reading cannot then fail as stale.
            begin = "BEGIN" if self.readonly else "BEGIN IMMEDIATE"
            # The outermost may be undone even if Ctrl-C came right after its beginning.
            begun = not level
            self._depth += 1
            self._owner = threading.get_ident()
            try:
                self._connection.execute(f"SAVEPOINT {name}" if level else begin)
                begun = True
                yield self
                self._connection.execute(f"RELEASE {name}" if level else "COMMIT")
            except BaseException:
                # SQLite itself rolls back on some errors, such as a full disk.
                if begun and self._connection.in_transaction:
                    self._connection.execute(f"ROLLBACK TO {name}" if level else "ROLLBACK")
                    if level:
                        self._connection.execute(f"RELEASE {name}")
                raise
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Other threads wait. To be taken before any lock under which the database is read: who is in a transaction
        has this one already, and asks for the other."""
        with self._lock:
            yield

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        with self._lock:
            self._connection.close()
            _OPEN.discard(self)
            if self._tidy:
                self._tidy = False
                self._leave_no_log()

    def _leave_no_log(self) -> None:
        """Even a reader of a log's database makes the files of the log where there are none; SQLite takes them away
        with the last connection that might write, unless somebody else has them open."""
        with contextlib.suppress(sqlite3.Error):
            last = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=rw", uri=True, timeout=0)
            with contextlib.closing(last):
                last.execute("SELECT count(*) FROM sqlite_master")

    @contextlib.contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> errors.MemoryStoreError:
        return refusals.translated(error, self.path, readonly=self.readonly, busy_timeout=self._busy_timeout)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from others; None where there is none."""
    found = path.stat() if path.exists() else None
    return found and (found.st_dev, found.st_ino)
