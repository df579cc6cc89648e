"""A full disk, told as one error whichever library met it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainers.errors import DiskFull, TrainersError


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """Turn the many ways in which writing fails on a full disk into DiskFull."""
    try:
        yield
    except TrainersError:
        raise
    except Exception as error:
        if not _no_room(error) and _free(folder) >= NO_ROOM:
            raise
        raise DiskFull(
            f"no room left on the disk of {folder}; free some space and run the same command again: what was finished "
            "is kept"
        ) from error


NO_ROOM = 1 << 20
"""Bytes: where fewer are free, whatever fails fails for want of room. PyTorch then says "unexpected pos 64 vs 0"."""


def _no_room(error: BaseException) -> bool:
    """Whether an error says itself that there was no room; those of safetensors do so in their text alone."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def _free(folder: Path) -> int:
    """The bytes that are free where `folder` lies, or will lie."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(place).free
