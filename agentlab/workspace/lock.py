"""One writer a lab: an advisory lock that dies with its holder and says who that is."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from pathlib import Path
from typing import IO

from agentlab.errors import LabLocked
from memory.records import now


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
            holder = self._holder(stream)
            stream.close()
            raise LabLocked(
                f"The lab {self.path.parent} is being written by {holder}; wait for it, stop it, or use another "
                "lab folder (--lab)."
            ) from None
        stream.seek(0)
        stream.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": now()}, stream)
        stream.flush()
        self._stream = stream

    @staticmethod
    def _holder(stream: IO[str]) -> str:
        stream.seek(0)
        try:
            known = json.loads(stream.read())
            return f"process {known['pid']} on {known['host']} ({known['command']}, since {known['since'][:19]})"
        except (ValueError, KeyError):
            return "another process"

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
