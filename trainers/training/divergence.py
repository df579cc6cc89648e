"""A loss that shows that training has gone wrong: no number, or a jump. The job stops before it moves a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from trainers.errors import LossSpike, TrainingDiverged

FIRST = 8
"""As many losses make a median that a jump can be told by."""

BATCH = "diverged.jsonl"
"""The file in the job folder that holds the batch at which a job stopped, a record a line."""


def spiked(loss: float, earlier: Sequence[float], times: float) -> bool:
    """Whether `loss` exceeds `times` the median of all earlier losses. 0 turns the rule off.

    The median of all, and not of the latest, since near the end of training a hard example costs many times what the
    learned ones do, and nothing is wrong.
    """
    return bool(times) and len(earlier) >= FIRST and loss > times * median(earlier) > 0


def check(loss: float, earlier: Sequence[float], times: float, records: Sequence[Any], folder: Path | None) -> None:
    """Raise TrainingDiverged if the loss of the step after `earlier` is no number, LossSpike if it jumped.

    `records` are those of the batch; they are written to `folder`, except where that is None.
    """
    broken = not math.isfinite(loss)
    if not broken and not spiked(loss, earlier, times):
        return
    if folder is not None:
        lines = "".join(record.model_dump_json() + "\n" for record in records)
        (folder / BATCH).write_text(lines, encoding="utf-8")
    step = len(earlier) + 1
    if broken:
        raise TrainingDiverged(
            f"the loss is {loss} at step {step} (its batch is in {BATCH}); the learning rate is too high or the base "
            "weights are damaged; make a job with a lower learning_rate"
        )
    raise LossSpike(
        f"the loss jumped to {loss:.3g} at step {step}, from a median of {median(earlier):.3g} (its batch is in "
        f"{BATCH}); an example is broken or the learning rate too high; make a job without it, with a lower "
        "learning_rate, or with spike=0"
    )
