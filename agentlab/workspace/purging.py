"""Deleting reflections for good: from the database, from what is in flight, and from every file of the lab."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agentlab.workspace.workspace import Workspace
from memory.store import Purged, finish, meant, purge
from trainers.adapters import learned_from
from trainers.errors import NotAJob

SAID = 10
"""So many reflections are named that have a purged text in their own."""

READ = 1 << 22
"""Bytes of a file that are looked through at once."""

DATABASES = ("lab.db", "checkpoints.db")
"""How the files of databases begin. Whoever closes one of them gives back what this process has locked of it
(`memory.store.connection`)."""
_NEVER_CLOSED: list[IO[bytes]] = []


@dataclass(frozen=True)
class Purging:
    """What a purge deletes, or did; `adapters` learned from it, and have it in their weights all the same."""

    ids: list[str]
    recalls: int
    episodes: int
    adapters: list[str]
    done: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """It in a sentence or two."""
        if not self.ids:
            return "Nothing fits, so nothing is purged."
        first = self.ids[0] if len(self.ids) == 1 else f"{self.ids[0]} and {len(self.ids) - 1:,} more"
        what = (
            f"{first}, with all versions, {self.recalls:,} recalls, and the memory block of {self.episodes:,} episodes"
        )
        said = f"Purged {what}." if self.done else f"This deletes {what}; it cannot be undone."
        if not self.adapters:
            return said
        names = ", ".join(self.adapters)
        return f"{said} {names} learned from it: it stays in these weights."


def plan(workspace: Workspace, ids: Sequence[str]) -> Purging:
    """What a purge of these reflections would delete. Raises UnknownReflection, PinnedReflection, CannotPurge."""
    found = meant(workspace.database, ids)
    return Purging(found.ids, found.recalls, len(found.episodes), _adapters(workspace, ids))


def purge_all(workspace: Workspace, ids: Sequence[str], reason: str = "") -> Purging:
    """Delete these reflections, and all that is counted with them, for good; raises as `plan` does.

    After it their texts stand in no table and no file of the lab that `notes` do not name: the index is made again from
    what is left, episodes in flight that they served begin anew, and copies of the database that migrations made go, as
    do jobs that were to learn them.
    The database comes last: until then the same call after a kill finds them, and then whoever opens the lab to write
    does what is left.
    """
    workspace.must_write()
    database, adapters = workspace.database, _adapters(workspace, ids)
    planned, checkpoints = meant(database, ids), workspace.folder / "checkpoints.db"
    notes = [*_forget_files(workspace), *_forget_in_flight(checkpoints, planned), *_forget_jobs(workspace, planned.ids)]
    detail = f"{ids[0] if len(ids) == 1 else f'{len(ids)} reflections'}{f': {reason}' if reason else ''}"
    found = purge(database, ids, detail=detail)
    if (found.ids, found.quotable) != (planned.ids, planned.quotable):  # an edit that was asked for meanwhile
        notes += _forget_in_flight(checkpoints, found)
    if not finish(database):
        notes.append(f"{database.connection.path.name}-wal keeps them until the last reader of the lab has closed it.")
    if found.said:
        notes.append(f"What stays, and has such a text in its own: {', '.join(found.said[:SAID])}{_more(found.said)}.")
    files = [
        path for path in _files_with(workspace.folder, found.quotable) if not (found.said and path.name == "lab.db")
    ]
    notes += [f"The text stands in {path} too, which is not touched." for path in files]
    return Purging(found.ids, found.recalls, len(found.episodes), adapters, True, notes)


def _more(ids: Sequence[str]) -> str:
    return f" and {len(ids) - SAID} more" if len(ids) > SAID else ""


def _adapters(workspace: Workspace, ids: Sequence[str]) -> list[str]:
    taught = learned_from(workspace.adapters, [workspace.database.reflections.get(id) for id in ids])
    return list(dict.fromkeys(one.adapter for those in taught.values() for one in those))


def _forget_files(workspace: Workspace) -> list[str]:
    """Delete the indexes, which are made again, and copies of the database from before a migration."""
    notes = []
    for path in sorted(workspace.folder.glob("*.faiss")):
        path.unlink()
        workspace.database.settings.drop(f"index made: {path.name}")
    for path in sorted(workspace.folder.glob("lab.version-*.db*")):
        path.unlink()
        notes.append(f"{path.name}, a copy from before a migration, was deleted, since it held them too.")
    return notes


def _forget_jobs(workspace: Workspace, ids: Sequence[str]) -> list[str]:
    """Delete the jobs that were to learn one of these and are not done: their round selects anew. What was trained has
    it in its weights all the same, and is named."""
    from trainers import job

    notes = []
    for folder in sorted((workspace.folder / "jobs").glob("*/")):
        try:
            found = job.load(folder)
        except NotAJob:
            continue
        if not set(found.lineage.reflections).isdisjoint(ids):
            place = folder.relative_to(workspace.folder).as_posix()
            if found.done:
                notes.append(f"{place} has it among the tokens that were trained on, and is not touched.")
            else:
                shutil.rmtree(folder)
                notes.append(f"{place} was to learn it and is gone; what that round trains on is selected anew.")
    return notes


def _forget_in_flight(path: Path, found: Purged) -> list[str]:
    """Delete the checkpoints of episodes in flight in which one of these stands, and what was freed in their file."""
    if not path.exists() or not path.stat().st_size:
        return []
    wanted = [text.encode() for text in [*found.ids, *found.quotable]]
    threads: set[str] = set()
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, column in (("checkpoints", "checkpoint"), ("writes", "value")):
            if table in tables:
                rows = file.execute(f"SELECT thread_id, {column} FROM {table}")
                threads.update(thread for thread, blob in rows if any(one in bytes(blob or b"") for one in wanted))
        for table in tables & {"checkpoints", "writes"}:
            file.executemany(f"DELETE FROM {table} WHERE thread_id = ?", [(thread,) for thread in sorted(threads)])
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [f"{len(threads)} in flight that had them begin anew."] if threads else []


def _files_with(folder: Path, texts: Sequence[str]) -> Iterator[Path]:
    """The files of a lab in which one of these texts stands, as it is or as JSON writes it."""
    wanted = {form.encode() for text in texts for form in (text, json.dumps(text)[1:-1])}
    longest = max(map(len, wanted), default=0)
    for path in sorted(folder.rglob("*")) if wanted else ():
        if path.is_file() and not path.is_symlink() and path.suffix != ".safetensors":
            with ExitStack() as closing_it:
                file = path.open("rb")
                if path.name.startswith(DATABASES):
                    _NEVER_CLOSED.append(file)
                else:
                    closing_it.enter_context(file)
                kept = b""
                while part := file.read(READ):
                    kept = kept[-longest:] + part
                    if any(one in kept for one in wanted):
                        yield path.relative_to(folder)
                        break
