"""A process that does one operation and dies in the middle of it: a copy of one that has imported everything."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.e2e.kills_tables import Tables, counts, tables


@dataclass(frozen=True)
class Moment:
    """When a process is killed: before its `event`-th event (a statement of SQL, or something done to a file of the
    lab), or after `seconds`. Before the event `jumps[0]` its clock jumps by `jumps[1]` seconds, and it begins so many
    seconds (`ahead`) off."""

    event: int | None = None
    seconds: float | None = None
    ahead: float = 0.0
    jumps: tuple[int, float] | None = None


@dataclass
class Ended:
    """How it ended: `killed`, `done`, `refused` with a line, or `failed` with a traceback; what was acknowledged until
    then, as counts of rows; and, where it was done, its tables."""

    how: str
    said: str = ""
    events: int = 0
    seconds: float = 0.0
    acknowledged: dict[str, int] = field(default_factory=dict)
    tables: Tables | None = None


def run(work: Callable[[], None], folder: Path, note: Path, moment: Moment | None = None) -> Ended:
    """Do `work` on the lab in `folder` in a copy of this process; `note` is a file for what it says."""
    note.unlink(missing_ok=True)
    moment = moment or Moment()
    begun = time.monotonic()
    process = os.fork()
    if process == 0:
        with suppress(BaseException):
            _child(work, folder, note, moment)
        os._exit(70)
    if moment.seconds is not None:
        watch = os.pidfd_open(process)
        select.select([watch], [], [], moment.seconds)
        os.close(watch)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    ended = Ended("killed", seconds=time.monotonic() - begun)
    code = os.waitstatus_to_exitcode(status)
    # The last line of a killed process may be half there: what it would have said was not acknowledged.
    whole = note.read_text(errors="replace").rpartition("\n")[0] if note.exists() else ""
    for line in whole.splitlines():
        kind, _, said = line.partition(" ")
        if kind == "counts":
            ended.acknowledged = json.loads(said)
        elif kind == "events":
            ended.events = int(said)
        elif kind == "tables":
            ended.tables = json.loads(said)
        elif kind in ("done", "refused", "failed"):
            ended.how, ended.said = kind, json.loads(said)
    if code == -signal.SIGKILL:
        ended.how = "killed"  # also where it had done everything, and was about to say so
    elif code:
        ended.how, ended.said = "failed", ended.said or f"it ended with {code}"
    return ended


def _child(work: Callable[[], None], folder: Path, note: Path, moment: Moment) -> None:
    from agentlab.cli.boundary import expected

    os.setsid()
    out = os.open(note, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)

    def tell(kind: str, said: Any) -> None:
        os.write(out, f"{kind} {json.dumps(said)}\n".encode())

    watch = Watch(folder, moment, tell)
    watch.install()
    try:
        work()
    except BaseException as error:
        watch.ended = True
        refused = expected(error) or isinstance(error, OSError | sqlite3.DatabaseError)
        tell("refused" if refused else "failed", str(error) if refused else traceback.format_exc())
    else:
        watch.ended = True
        tell("done", "")
        try:
            tell("tables", tables(folder))
        except BaseException:
            tell("failed", traceback.format_exc())
    tell("events", watch.events)
    os._exit(0)


class Watch:
    """Counts events in this process, kills it at its moment, and tells what each commit that returned has kept."""

    def __init__(self, folder: Path, moment: Moment, tell: Callable[[str, Any], None]) -> None:
        self.folder, self.moment, self.tell = f"{folder}/", moment, tell
        self.events = 0
        self.ended = False
        self.ahead = moment.ahead

    def event(self, *_: Any) -> None:
        if self.ended:
            return
        self.events += 1
        if self.moment.jumps is not None and self.events == self.moment.jumps[0]:
            self.ahead += self.moment.jumps[1]
        if self.events == self.moment.event:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        connect = sqlite3.connect

        def counted(*arguments: Any, **settings: Any) -> sqlite3.Connection:
            made = connect(*arguments, **settings)
            made.set_trace_callback(self.event)
            return made

        sqlite3.connect = counted  # type: ignore[assignment]
        sys.addaudithook(self._audited)
        self._acknowledge()
        if self.moment.ahead or self.moment.jumps:
            self._shift_clock()

    def _audited(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags & (os.O_WRONLY | os.O_RDWR):
                self._at(os.fsdecode(path))
        elif name in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"):
            self._at(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else "")

    def _at(self, path: str) -> None:
        if path.startswith(self.folder):
            self.event()

    def _acknowledge(self) -> None:
        """After each commit of the lab's database tell how many rows there are."""
        from memory.store.connection import Connection

        begin, execute = Connection.transaction, Connection.execute

        @contextmanager
        def transaction(connection: Any) -> Iterator[Any]:
            outer = not connection.in_transaction
            with begin(connection):
                yield connection
            if outer:
                self._kept(connection)

        def executed(connection: Any, sql: str, parameters: Any = ()) -> Any:
            found = execute(connection, sql, parameters)
            if not connection._depth and sql.startswith("INSERT"):
                self._kept(connection)
            return found

        Connection.transaction = transaction  # type: ignore[method-assign]
        Connection.execute = executed  # type: ignore[method-assign]

    def _kept(self, connection: Any) -> None:
        if connection.readonly or self.ended:
            return
        with connection._lock:
            raw = connection._connection
            raw.set_trace_callback(None)
            try:
                self.tell("counts", counts(raw))
            finally:
                raw.set_trace_callback(self.event)

    def _shift_clock(self) -> None:
        from memory import clock

        watch, real = self, time.time

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.now(tz) + timedelta(seconds=watch.ahead)

        clock.datetime = Shifted  # type: ignore[attr-defined, misc]
        time.time = lambda: real() + watch.ahead


def tear(folder: Path, chance: random.Random) -> str:
    """Tear the last page of a file that was being written when the process died; names the file, '' if there is none.

    A page is torn where a machine loses its power while it is written: a part of it is there, and the rest is missing
    or is what stood there before.
    """
    found = [
        path for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size and (
            path.name.endswith("-wal") or path.suffix in (".faiss", ".partial", ".tmp") or "checkpoints" in path.parts
        )
    ]  # fmt: skip
    if not found:
        return ""
    path = chance.choice(found)
    size = path.stat().st_size
    page = min(size, 4096)
    cut = size - chance.randint(1, page)
    with path.open("r+b") as file:
        if chance.random() < 0.5:
            file.truncate(cut)
        else:
            file.seek(cut)
            file.write(chance.randbytes(size - cut))
    return path.relative_to(folder).as_posix()
