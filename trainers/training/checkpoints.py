"""Checkpoints that can be told to be whole: a mark is written last, with the size and the checksum of every file."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

from memory.text import loaded

WHOLE = "whole.json"


def mark(checkpoint: Path, **facts: Any) -> None:
    """Say that `checkpoint` is written to its end, and keep `facts` with it."""
    files = sorted(checkpoint.iterdir())
    sizes = {path.name: path.stat().st_size for path in files}
    sums = {path.name: _checksum(path) for path in files}
    beside = checkpoint / (WHOLE + ".partial")
    beside.write_text(json.dumps(facts | {"sizes": sizes, "sums": sums}), encoding="utf-8")
    os.replace(beside, checkpoint / WHOLE)


def facts(checkpoint: Path) -> dict[str, Any]:
    """What was kept with the mark."""
    kept: dict[str, Any] = loaded((checkpoint / WHOLE).read_text(encoding="utf-8"))
    return kept


def last_whole(folder: Path, *, tidy: bool = True) -> Path | None:
    """The newest checkpoint that was written to its end; `tidy` deletes torn ones."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    last: Path | None = None
    for checkpoint in found:
        if not _whole(checkpoint):
            if tidy:
                shutil.rmtree(checkpoint)
        elif last is None:
            last = checkpoint
    return last


def _whole(checkpoint: Path) -> bool:
    try:
        kept = facts(checkpoint)
        if any((checkpoint / name).stat().st_size != size for name, size in kept["sizes"].items()):
            return False
        # Where the power fails, a file may have its size and not its content. Earlier versions kept no checksums.
        return all(_checksum(checkpoint / name) == found for name, found in kept.get("sums", {}).items())
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return False


def _checksum(path: Path) -> int:
    """CRC-32, which tells a page that was torn and takes no time beside writing it."""
    found = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found = zlib.crc32(part, found)
    return found
