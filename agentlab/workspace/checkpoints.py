"""The checkpoints of a lab: what is in flight, in an SQLite file of LangGraph's own."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agentlab.errors import NotALab

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def saver(path: Path, closing: ExitStack) -> Any:
    """LangGraph's SQLite saver over the file in `path`, which goes with `closing`.

    Raises NotALab if the file is damaged. What else SQLite refuses (a full disk, a file that may not be written) says
    nothing of the file, and is raised as it is.
    """
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
    closing.callback(connection.close)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _DAMAGED:
            raise
        raise NotALab(
            f"{path} cannot be read ({error}); delete it: it holds only what was in flight, which is played again."
        ) from error
    return SqliteSaver(connection)
