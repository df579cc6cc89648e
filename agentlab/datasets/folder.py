"""The folder of a data set: known by a mark, and replaced as a whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentlab.datasets.card import CARD
from agentlab.datasets.schemas import CONFIGS, SPLITS
from agentlab.errors import BadConfig
from agentlab.workspace.workspace import CONFIG_FILE

MARK = "agentlab-dataset"
"""A file by which a folder is known as one that an export wrote, and may be written over."""

FILES = {CARD, MARK, *(f"{config}/{split}.parquet" for config in CONFIGS for split in SPLITS.values())}
"""All that an export writes."""


def checked(folder: Path | str) -> Path:
    """The place of a folder into which a data set may be written: a new or an empty one, or that of an earlier export.

    Raises BadConfig for one that lies in a lab, or holds anything else.
    """
    target = Path(folder).expanduser().resolve()
    if any((place / CONFIG_FILE).exists() for place in (target, *target.parents)):
        raise BadConfig(f"{folder} lies in a lab, whose files are its own; give a folder outside of it.")
    if not target.exists():
        return target
    if not target.is_dir():
        raise BadConfig(f"{folder} is a file; give a new folder.")
    held = [path for path in target.rglob("*") if path.is_symlink() or not path.is_dir()]
    others = sorted({path.relative_to(target).as_posix() for path in held} - FILES)
    if held and not (target / MARK).exists():
        raise BadConfig(f"{folder} is not empty, and holds no export; give a new folder.")
    if others:
        raise BadConfig(
            f"{folder} holds {others[0]}, which no export wrote; move that elsewhere, or give a new folder."
        )
    return target


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into, which takes its place in the end; if that fails, nothing is left of it.

    Raises BadConfig if another process is writing there.
    """
    beside, before = (target.with_name(f".{target.name}.{what}") for what in ("partial", "before"))
    beside.mkdir(parents=True, exist_ok=True)
    lock = os.open(beside, os.O_RDONLY)  # which the kernel releases when the process ends, however
    try:
        _hold(lock, beside, target)
        try:
            for left in beside.iterdir():  # by one that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            if before.exists() and not target.exists():  # killed between the two moves below
                os.replace(before, target)
            yield beside
            (beside / MARK).write_text("The episodes of a lab, written by `agentlab export`.\n", encoding="utf-8")
            shutil.rmtree(before, ignore_errors=True)
            if target.exists():
                os.replace(target, before)
            os.replace(beside, target)
            shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    finally:
        os.close(lock)


def _hold(lock: int, beside: Path, target: Path) -> None:
    """Lock the folder, unless another process has it, or has moved it meanwhile to where it belongs."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.path.samestat(os.fstat(lock), beside.stat())
    except OSError:
        held = False
    if not held:
        raise BadConfig(f"Another export is writing {target}; wait for it, or give another folder.")
