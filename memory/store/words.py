"""The index of words over the texts of reflections (FTS5), made by a migration and made again where it is torn."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from memory.text.segmentation import TOKENIZER, segmented

if TYPE_CHECKING:
    import sqlite_utils

EMPTY_STAMP = int.from_bytes(hashlib.sha256(b"").digest()[:8], "big", signed=True)
"""The stamp of an empty text."""


def index_texts(db: sqlite_utils.Database) -> None:
    """Make the index of words anew from the texts. What has none is not in it, so that it bends no rarity of words."""
    try:
        db.execute("DROP TABLE IF EXISTS reflections_fts")
    except sqlite3.DatabaseError:
        # FTS5 does not let go of a table that it cannot read: what is left of it are tables like others.
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_master WHERE name = 'reflections_fts'")
        db.execute("PRAGMA writable_schema = RESET")
        for part in ("data", "idx", "content", "docsize", "config"):
            db.execute(f"DROP TABLE IF EXISTS reflections_fts_{part}")
    db.execute(f"CREATE VIRTUAL TABLE reflections_fts USING fts5(text, tokenize='{TOKENIZER}')")
    rows = db.execute("SELECT number, text FROM reflections WHERE text <> '' ORDER BY number")
    db.conn.executemany(
        "INSERT INTO reflections_fts (rowid, text) VALUES (?, ?)", ((number, segmented(text)) for number, text in rows)
    )
    db.execute(
        "CREATE TRIGGER IF NOT EXISTS reflections_fts_delete AFTER DELETE ON reflections BEGIN "
        "DELETE FROM reflections_fts WHERE rowid = old.number; END"
    )


def texts_indexed(execute: Callable[[str], Iterable[Sequence[Any]]]) -> bool:
    """True if the index of words is there, and holds as many texts as there are."""
    # The table, its five shadows and the trigger.
    ((parts,),) = execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'reflections\\_fts%' ESCAPE '\\'")
    if parts < 7:
        return False
    # By the stamps, which have an index, where the texts would have to be read.
    ((same,),) = execute(
        f"SELECT count(*) - (SELECT count(*) FROM reflections WHERE stamp = {EMPTY_STAMP}) "
        "= (SELECT count(*) FROM reflections_fts_docsize) FROM reflections"
    )
    return bool(same)
