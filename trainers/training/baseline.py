"""What the base model makes of every record of a job: computed once, before the first step, and kept.

The base never changes during a job, so asking it at every step would double the work for the same answers. They are
kept batch by batch, so that a kill costs one batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.text import loaded

if TYPE_CHECKING:
    from trainers.objectives.base import Comparing, Inputs, Item
    from trainers.training.footprint import Footprint

Rows = list[tuple[float, ...]]
"""Log-probabilities by the base, a row for each record."""


def recall(path: Path, key: str, plan: Sequence[Sequence[int]], compute: Callable[[Sequence[int]], Rows]) -> Rows:
    """A row for every index that the batches of `plan` hold, in order of the index.

    Those kept at `path` are taken; a batch of which one is missing there is computed, and kept at once. `key` names all
    that the rows follow from: a file of another key is made anew. A line that was torn counts as missing.
    """
    rows = _load(path, key)
    missing = [batch for batch in plan if not all(index in rows for index in batch)]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if rows else "w", encoding="utf-8") as stream:
            # An empty line ends one that was torn.
            stream.write("\n" if rows else f"{key}\n")
            for batch in missing:
                fresh = dict(zip(batch, compute(batch), strict=True))
                stream.writelines(f"{json.dumps([index, *row])}\n" for index, row in fresh.items())
                stream.flush()
                rows |= fresh
    return [rows[index] for index in sorted(index for batch in plan for index in batch)]


def _load(path: Path, key: str) -> dict[int, tuple[float, ...]]:
    try:
        said, *lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    if said != key:
        return {}
    rows: dict[int, tuple[float, ...]] = {}
    for line in lines:
        try:
            index, *row = loaded(line)
            if row and all(math.isfinite(value) for value in row):
                rows[index] = tuple(row)
        except (ValueError, TypeError):
            continue
    return rows


def ask(objective: Comparing, items: Sequence[Item], model: Any, device: str, small: Footprint) -> Rows:
    """What `model`, with its adapter off, gives for these items, by which the objective compares.

    They go through in parts of `small.examples`, which is made smaller whenever memory runs out. Raises OutOfMemory if
    it does so with a single one.
    """
    import torch

    from trainers.training.footprint import ran_out

    while True:
        try:
            with torch.no_grad():
                parts = [items[start : start + small.examples] for start in range(0, len(items), small.examples)]
                return [row for part in parts for row in _through(objective, part, model, device)]
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
        # Here the error is gone, and with it what its traceback held.
        small.shrink(model, len(items))


def _through(objective: Comparing, part: Sequence[Item], model: Any, device: str) -> Rows:
    compared = objective.compared(model, _moved(objective.collate(part), device), model)
    return [tuple(row) for row in compared.tolist()]


def _moved(inputs: Inputs, device: str) -> Inputs:
    return {name: _moved(it, device) if isinstance(it, dict) else it.to(device) for name, it in inputs.items()}


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of about the same length, the longest first, so that memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[start : start + size] for start in range(0, len(order), size)]
