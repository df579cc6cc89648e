"""What an operation left: the tables of a lab without what a clock or chance says, and what was acknowledged."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.kills_operations import SECRET

CLOCK = {
    "resumed", "started_at", "ended_at", "seconds", "tokens_per_second", "created_at", "updated_at", "at", "date",
    "last", "done_at", "hours",
}  # fmt: skip
"""What a clock says, and from which step a training went on."""
LEFT_OUT = {"events", "vectors", "sqlite_sequence", "sqlite_stat1"}
"""How far work was says a clock; vectors are kept so as not to be made again, and are made again where they lack."""
GROWING = (
    "episodes", "reflections", "reflection_versions", "recalls", "operations", "journal", "adapters", "rounds",
    "evaluations",
)  # fmt: skip
"""The tables of which nothing is deleted but by a purge."""
CHANCE = re.compile(r"\b(ops?)-[0-9a-z]{8,}")
PASSING = re.compile(r"(-wal|-shm|\.lock|/lock|\.log|\.faiss(\.\d+\.\d+\.new)?)$")
"""Files that come and go: logs and locks, and the index, a cache that is made when it is wanted. What a kill leaves of
its writing goes when it is written next."""

Tables = dict[str, list[str]]


def timeless(value: Any) -> Any:
    """Data without what a clock says."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A cell as it can be compared: packed and JSON texts as data, other bytes as their hash."""
    if isinstance(value, bytes):
        try:
            value = zlib.decompress(value).decode()
        except (zlib.error, UnicodeDecodeError):
            return hashlib.sha256(value).hexdigest()
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return timeless(json.loads(value))
        except ValueError:
            return value
    return value


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """A copy of a lab's databases, which can be opened though the lab's own disk is full, and that stay as they are."""
    with tempfile.TemporaryDirectory(prefix="kills-tables-") as beside:
        for path in [*folder.glob("lab.db*"), *folder.glob("checkpoints.db*")]:
            shutil.copy(path, beside)
        yield Path(beside)


def _names(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'")
    # What belongs to an index of words is compared by the words.
    return sorted(name for (name,) in found if name not in LEFT_OUT and "_fts_" not in name)


def _rows(connection: sqlite3.Connection, table: str) -> list[str]:
    cursor = connection.execute(f"SELECT * FROM {table}")
    columns = [column[0] for column in cursor.description]
    rows = []
    for row in cursor:
        cells = {key: _plain(value) for key, value in zip(columns, row, strict=True) if key not in CLOCK}
        if table == "journal" and cells.get("scope") == "run":
            cells.pop("payload", None)  # when it began
        if table == "settings" and str(cells.get("key")).startswith("consolidated|"):
            cells.pop("value", None)  # up to which change it has looked: one that was killed has looked again
        if table == "settings" and str(cells.get("key")).startswith("index made: "):
            continue  # a cache, as the index itself
        rows.append(CHANCE.sub(r"\1-…", json.dumps(cells, sort_keys=True, default=str)))
    return sorted(rows)


def tables(folder: Path) -> Tables:
    """All that a lab has: each row of each table, what is in flight, and its files, the weights by their hash."""
    found: Tables = {}
    with copied(folder) as beside:
        with closing(sqlite3.connect(beside / "lab.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            for name in _names(connection):
                found[name] = _rows(connection, name)
        if (beside / "checkpoints.db").exists():
            with closing(sqlite3.connect(beside / "checkpoints.db")) as connection:
                rows = connection.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchall()
                found["in flight"] = sorted(str(row[0]) for row in rows)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found["files"] = [name for path in files if not PASSING.search(name := f"/{path.relative_to(folder).as_posix()}")]
    found["weights"] = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.suffix == ".safetensors"
    ]
    if not any('"r-key"' in row for row in found.get("reflections", [])):  # it was purged
        said = SECRET.encode()
        found["files with the secret"] = [path.name for path in files if said in path.read_bytes()]
    return found


def difference(meant: Tables, got: Tables) -> str:
    """The first thing in which two differ; empty if none does."""
    for name in sorted({*meant, *got}):
        ours, theirs = meant.get(name, []), got.get(name, [])
        if ours != theirs:
            missing, more = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
            return f"{name}: {len(ours)} rows, here {len(theirs)}; missing {missing[:2]}; more {more[:2]}"[:2000]
    return ""


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows of each growing table there are."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {
        name: int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in GROWING if name in names
    }


def counts_in(folder: Path) -> dict[str, int]:
    """The same of a lab as it lies there, which stays as it is."""
    if not (folder / "lab.db").exists():
        return {}
    with copied(folder) as beside, closing(sqlite3.connect(beside / "lab.db")) as connection:
        return counts(connection)


def round_ended(folder: Path) -> bool:
    """Whether the last round of a lab has ended, as its database says."""
    if not (folder / "lab.db").exists():
        return False
    with copied(folder) as beside, closing(sqlite3.connect(beside / "lab.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'").fetchone():
            return False
        found = connection.execute("SELECT payload FROM rounds ORDER BY number DESC LIMIT 1").fetchone()
        return found is not None and json.loads(found[0])["phase"] == "done"
