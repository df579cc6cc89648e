"""One writer a lab: an advisory lock that dies with its holder and says who that is."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from pathlib import Path
from typing import IO, NamedTuple

from agentlab.errors import LabLocked
from memory.records import now

LONGEST = 10_000
"""Bytes of what a holder writes of itself, at most."""


class Holder(NamedTuple):
    """The process that writes to a lab: what was typed to start it, and since when it holds the lock (ISO 8601)."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}, since {self.since[:19]})"


def holder(path: Path) -> Holder | None:
    """Who holds the lock in the file `path`, as far as can be seen without touching it; None if nobody does here."""
    try:
        with path.open("rb") as stream:
            known = json.loads(stream.read(LONGEST).decode(errors="replace"))
        found = Holder(int(known["pid"]), str(known["host"]), str(known["command"]), str(known["since"]))
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    if found.pid <= 0:  # to the kernel, a group of processes
        return None
    # Of another machine's lock nothing can be seen here.
    return found if found.host != socket.gethostname() or _locked(path, found.pid) else None


def _locked(path: Path, pid: int) -> bool:
    """Whether somebody on this machine holds a file locked, as the kernel lists it; without its list, whether the
    process is there."""
    try:
        listed = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
        inode = path.stat().st_ino
    except OSError:
        return Path(f"/proc/{pid}").exists()
    fields = (line.split() for line in listed.splitlines())
    # By the inode alone: some file systems number their devices otherwise there.
    return any("FLOCK" in field and any(part.endswith(f":{inode}") for part in field) for field in fields)


class WriteLock:
    """Holds `path` locked while a process writes to the lab. The kernel releases it when the process ends, however."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock. Raises LabLocked, naming the holder, if another process has it."""
        stream = self.path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            who = holder(self.path) or "another process"
            raise LabLocked(
                f"The lab {self.path.parent} is being written by {who}; wait for it, stop it, or use another lab "
                "folder (--lab)."
            ) from None
        stream.seek(0)
        stream.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": now()}, stream)
        stream.flush()
        self._stream = stream

    def release(self) -> None:
        if self._stream is not None:
            # Who looks on need not ask the kernel whether anybody is there.
            self._stream.truncate(0)
            self._stream.close()
            self._stream = None
