"""Checkpoints that can be told to be whole: a mark is written last, with the size of every file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

WHOLE = "whole.json"


def mark(checkpoint: Path, **facts: Any) -> None:
    """Say that `checkpoint` is written to its end, and keep `facts` with it."""
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir())}
    beside = checkpoint / (WHOLE + ".partial")
    beside.write_text(json.dumps(facts | {"sizes": sizes}), encoding="utf-8")
    os.replace(beside, checkpoint / WHOLE)


def facts(checkpoint: Path) -> dict[str, Any]:
    """What was kept with the mark."""
    kept: dict[str, Any] = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
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
        sizes = facts(checkpoint)["sizes"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False
