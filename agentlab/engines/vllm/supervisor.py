"""A server's supervisor, a process of its own: the server ends when it does, or when whoever started it is gone.

    python supervisor.py SCRATCH COMMAND …

The server is started once a line stands on the standard input. That ends with the process that holds its other side,
however that ended (SIGKILL included): so it is known, and by having another parent. The folder SCRATCH, if one is
named, is removed then. Nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

GRACE = 10.0
"""Seconds that a server has to end by itself."""

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the server: end when the supervisor does, should that be killed. It has one thread, which alone counts."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _heard(parent: int) -> bytes | None:
    """Wait up to a second for what is said by whoever started this; empty if that is gone, None if it is silent."""
    readable, _, _ = select.select([0], [], [], 1.0)
    return b"" if os.getppid() != parent else os.read(0, 1) if readable else None


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: politely, then for good."""
    for how, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            server.poll()
            try:
                os.killpg(server.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.05)


def supervise(scratch: str, command: list[str]) -> int:
    """Run a server until it ends or nobody is there any more, and remove its folder; its exit code."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        while (said := _heard(parent)) is None:
            pass
        return _served(command, parent) if said else 1
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _served(command: list[str], parent: int) -> int:
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # one thread: no harm
    )
    try:
        while server.poll() is None and _heard(parent) != b"":
            pass
    finally:
        _end(server)
    return server.wait()


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1], sys.argv[2:]))
