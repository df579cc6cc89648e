"""What can go wrong in the memory. The text of every error is one complete line: what, why, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class MemoryStoreError(Exception):
    """Base of every error of this package."""


class NotADatabase(MemoryStoreError):
    """The file is not a database of this tool."""


class DamagedDatabase(NotADatabase):
    """The file was a database of this tool, but is truncated or overwritten."""


class DatabaseMissing(MemoryStoreError):
    """There is no database at this path, and it was to be opened for reading only."""


class OlderDatabase(MemoryStoreError):
    """The database was made by an earlier version, and whoever came is not to bring it up to date."""


class NewerDatabase(MemoryStoreError):
    """The database was written by a newer version of this tool."""


class CannotMigrate(MemoryStoreError):
    """The database is of an earlier version, and cannot be copied before it is changed. It was not changed."""


class DatabaseBusy(MemoryStoreError):
    """Another process held the database for longer than the busy timeout."""


class DatabaseClosed(MemoryStoreError):
    """The database was used after it had been closed."""


class ReadOnlyDatabase(MemoryStoreError):
    """A write was tried on a database that was opened for reading only."""


class DiskFull(MemoryStoreError):
    """The disk has no room left. Nothing that was acknowledged before is lost."""


class InvalidValue(MemoryStoreError):
    """A value that no database can hold, such as half of a character, or a number of more than 64 bits."""


class UnknownEpisode(MemoryStoreError):
    """No episode has this id, or a shortened id fits more than one."""


class UnknownReflection(MemoryStoreError):
    """No reflection has this id, or a shortened id fits more than one."""


class UnknownOperation(MemoryStoreError):
    """No operation has this id, or a shortened id fits more than one."""


class InvalidReflection(MemoryStoreError):
    """A reflection that cannot be kept, such as one without text and without advice."""


class EditedMeanwhile(MemoryStoreError):
    """A text was to be put in place of one that is no longer there: somebody else has edited the reflection."""


class PinnedReflection(MemoryStoreError):
    """A pinned reflection was to be taken out of use."""


class InvalidItem(MemoryStoreError, ValueError):
    """An item that a LangGraph store cannot keep, such as one whose value is not JSON."""


class MissingDependency(MemoryStoreError):
    """A third-party package that this needs is not installed."""


class BadMoment(MemoryStoreError):
    """A time that cannot be understood, or two in the wrong order."""


class CannotUndo(MemoryStoreError):
    """An operation that cannot be taken back as things stand."""


class CannotPurge(MemoryStoreError):
    """A reflection that cannot be deleted for good as things stand. Nothing was deleted."""


class BadImport(MemoryStoreError):
    """A file of reflections that cannot be read, or an entry of it that cannot be kept. Nothing was imported."""


class QuotaExceeded(MemoryStoreError):
    """One source has brought in more than it may. Nothing of it was kept."""


class EmbedderUnavailable(MemoryStoreError):
    """The embedding model cannot be loaded from its folder."""


class WrongVectors(MemoryStoreError):
    """Vectors whose shape is not the one that the embedder or the index has."""


def unknown(noun: str, wanted: str, ids: Sequence[str], listing: str) -> str:
    """The line for an id that nothing has: with the nearest id if one is near, else with `listing`, how to see all."""
    near = difflib.get_close_matches(wanted, ids, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"{listing} shows which there are."
    return f"No {noun} has the id '{wanted}'; {hint}"


def ambiguous(noun: str, wanted: str, ids: Sequence[str]) -> str:
    """The line for a shortened id that fits several."""
    shown = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    return f"The id '{wanted}' fits more than one {noun} ({shown}); type more of it."
