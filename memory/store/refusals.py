"""What SQLite refuses, as errors of this package: each one line that says what, why, and what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from memory import errors

READ_ONLY = "is open for reading only; open it for writing to change it"
NOT_ALLOWED = "may not be written to; check who owns it and its folder, nothing was changed"
ROOM = 64 * 1024
"""Bytes without which SQLite cannot make the file beside a log in which locks are kept: it calls that an I/O error."""


UNSTORABLE = (UnicodeEncodeError, OverflowError)
"""What Python says of a value before SQLite gets to see it."""


def translated(error: Exception, path: Path, *, readonly: bool, busy_timeout: float) -> errors.MemoryStoreError:
    """What SQLite said of the database in `path`."""
    if isinstance(error, UNSTORABLE):
        what = "half of a character" if isinstance(error, UnicodeEncodeError) else "a number of more than 64 bits"
        return errors.InvalidValue(f"A text or number holds {what}, which no database can hold; write it another way.")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_IOERR and _without_room(path):
        code = sqlite3.SQLITE_FULL
    match code:
        case sqlite3.SQLITE_FULL:
            return errors.DiskFull(
                f"{path} could not grow: the disk is full; make room and run the same command again "
                "(what was saved before is intact)."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return errors.DatabaseBusy(
                f"{path} is being written by another process (waited {busy_timeout:g} s); "
                "wait until that one ends, or stop it."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return errors.DamagedDatabase(damage(path, str(error)))
        case sqlite3.SQLITE_READONLY:
            return errors.ReadOnlyDatabase(f"{path} {READ_ONLY if readonly else NOT_ALLOWED}.")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return errors.NotADatabase(
                f"{path} cannot be opened ({error}); check that the folder exists and that you may write in it."
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return errors.MemoryStoreError(
                f"{path} refused a row ({error}); keep what it refers to first, such as the reflection of a recall."
            )
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return errors.DatabaseClosed(f"{path} was closed; open it again.")
    return errors.MemoryStoreError(f"{path}: {error}; look at the disk and at who else uses the file, then retry.")


def damage(path: Path, why: str) -> str:
    """The line for a file that is damaged."""
    return (
        f"{path} is damaged ({why}); restore it from a copy, "
        f"or save what can be read with `sqlite3 {path.name} .recover`."
    )


def _without_room(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < ROOM
