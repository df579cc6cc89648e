"""What the base model makes of every record of a job: computed once, before the first step, and kept.

The base never changes during a job, so asking it at every step would double the work for the same answers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.dispatch import Inputs, Item, Objective

Rows = list[tuple[float, ...]]
"""Log-probabilities by the base, a row for each record."""


def recall(path: Path, key: str, count: int, compute: Callable[[], Rows]) -> Rows:
    """The rows kept at `path`, or, where there are none that fit, those that `compute` gives, which are then kept.

    `key` names all that the rows follow from. A file of another key, of another number of rows than `count`, or one
    that was torn is made anew; it is written whole or not at all.
    """
    kept = _load(path, key, count)
    if kept is not None:
        return kept
    rows = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone, since several may train one job.
    beside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    beside.write_text(json.dumps({"key": key, "rows": rows}), encoding="utf-8")
    os.replace(beside, path)
    return rows


def _load(path: Path, key: str, count: int) -> Rows | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows = [tuple(map(float, row)) for row in kept["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    usable = kept["key"] == key and len(rows) == count and all(math.isfinite(value) for row in rows for value in row)
    return rows if usable else None


def ask(objective: Objective, items: Sequence[Item], model: Any, device: str, batch_size: int) -> Rows:
    """What `model`, with its adapter off, gives for every item that the objective compares by."""
    import torch

    rows: dict[int, tuple[float, ...]] = {}
    with torch.no_grad():
        for batch in batches([len(item.record) for item in items], batch_size):
            inputs = _moved(objective.collate([items[index] for index in batch]), device)
            compared = objective.compared(model, inputs, model).tolist()
            rows |= {index: tuple(row) for index, row in zip(batch, compared, strict=True)}
    return [rows[index] for index in range(len(items))]


def _moved(inputs: Inputs, device: str) -> Inputs:
    return {name: _moved(it, device) if isinstance(it, dict) else it.to(device) for name, it in inputs.items()}


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of about the same length, the longest first, so that memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[start : start + size] for start in range(0, len(order), size)]
