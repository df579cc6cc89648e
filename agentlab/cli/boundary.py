"""Where an error becomes one line for a person. Nothing else on the command line catches errors to print them.

Errors of our four packages say in one line what happened, why, and what to do: that line goes to stderr, in red, and
the exit code is 2. The same holds for the operating system's refusals. Ctrl-C ends with 130, as shells have it. Any
other exception is a fault of the program and keeps its traceback; AGENTLAB_TRACEBACK=1 shows that of every error.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentlab.cli.help import Sections

BAD_INPUT = 2
INTERRUPTED = 130
_BASES = (
    ("environments.errors", "EnvironmentsError"),
    ("memory.errors", "MemoryStoreError"),
    ("trainers.errors", "TrainersError"),
    ("agentlab.errors", "AgentLabError"),
)


def expected(error: BaseException) -> bool:
    """True if `error` is of one of the four packages' own classes."""
    # An error whose module was never imported cannot be raised; so nothing is imported to find out.
    bases = [getattr(sys.modules[module], name) for module, name in _BASES if module in sys.modules]
    return isinstance(error, tuple(bases))


def refusal(error: OSError) -> str:
    """The operating system's refusal as one line: what; why; what to do."""
    name = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{name}no room left on the disk; free some and repeat the command, what was finished is kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{name}not allowed ({error.strerror}); check who owns it, or choose another place with --lab"
    return f"{name}{error.strerror or error}"


def checkpoints_refused(error: Exception) -> str:
    """What SQLite says of the lab's checkpoints, the only file of it that memory's errors do not speak for."""
    import sqlite3

    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or "full" in str(error):
        return refusal(OSError(errno.ENOSPC, "", "checkpoints.db"))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"checkpoints.db of the lab cannot be used ({error}); if no other process uses it, delete it and repeat "
            "the command: it holds only what was in flight, which is played again"
        )
    return (
        f"checkpoints.db of the lab cannot be used ({error}); look whether the disk is full and whether you may write "
        "there, then repeat the command"
    )


def report(message: str) -> None:
    """`message` as one red line on stderr."""
    from agentlab.cli import output

    output.console(sys.stderr).print(output.text(f"error: {output.one_line(message)}", "red"), soft_wrap=True)


@contextmanager
def boundary() -> Iterator[None]:
    """Turn expected errors and Ctrl-C into a line and an exit code (SystemExit); also for scripts, around `main`."""
    try:
        yield
    except KeyboardInterrupt:
        report("interrupted; what was finished is kept, the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get("AGENTLAB_TRACEBACK") == "1" or isinstance(error, BrokenPipeError):
            raise
        if expected(error):
            report(str(error))
            if type(error).__name__ == "Stopped":
                raise SystemExit(INTERRUPTED) from None
        elif isinstance(error, OSError) and error.errno is not None:
            report(refusal(error))
        elif "sqlite3" in sys.modules and isinstance(error, sys.modules["sqlite3"].DatabaseError):
            report(checkpoints_refused(error))
        else:
            raise
        raise SystemExit(BAD_INPUT) from None


class Commands(Sections):
    """The group of all commands, run inside the boundary."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Any:
        """Run the command line; what the terminal cannot show never ends it, and what is no text never begins."""
        from agentlab.cli import output

        output.tolerate()
        for word in sys.argv[1:] if args is None else args:
            # Bytes that are no UTF-8 come as halves of characters, which neither JSON nor a database takes.
            if any("\ud800" <= character <= "\udfff" for character in str(word)):
                report(f"the argument '{word.encode('utf-8', 'replace').decode()}' is no UTF-8 text; give it as UTF-8")
                raise SystemExit(BAD_INPUT)
        return super().main(args, *more, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command inside the boundary."""
        with boundary():
            return super().invoke(ctx)
