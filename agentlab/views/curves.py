"""The curve of a training for a screen: loss and learning rate by step, in columns, thinned to what can be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel

from trainers.training import read_curve

DRAWN = 1000
"""Points of a curve that is drawn by a script."""

PLAIN = 200
"""Points of one that stands in the page."""


class Curve(BaseModel):
    """Loss and learning rate at steps of `total`; None where one is no finite number, or is not known.

    Of more steps than can be drawn, each stretch of them is shown by its step with the greatest loss, so that no spike
    is lost. `measures` are what the objective measures beside the loss.
    """

    steps: list[int] = []
    loss: list[float | None] = []
    learning_rate: list[float | None] = []
    measures: dict[str, list[float | None]] = {}
    done: int = 0
    total: int = 0

    @property
    def plain(self) -> Curve:
        """The same with no more points than a picture in the page has."""
        places = _places(self.loss, PLAIN)
        return self.model_copy(
            update={
                "steps": [self.steps[place] for place in places],
                "loss": [self.loss[place] for place in places],
                "learning_rate": [self.learning_rate[place] for place in places],
                "measures": {},
            }
        )

    @property
    def least(self) -> float:
        """The smallest loss."""
        return min(self._losses, default=0.0)

    @property
    def most(self) -> float:
        """The greatest loss."""
        return max(self._losses, default=0.0)

    @property
    def _losses(self) -> list[float]:
        return [value for value in self.loss if value is not None]


def curve(folder: Path, most: int = DRAWN) -> Curve:
    """The curve of the job in a folder, of at most `most` points; an empty one where nothing was trained yet."""
    points = read_curve(folder)
    shown = [points[place] for place in _places([_finite(point.loss) for point in points], most)]
    names = list(dict.fromkeys(name for point in shown for name in point.measures))
    return Curve(
        steps=[point.step for point in shown],
        loss=[_finite(point.loss) for point in shown],
        learning_rate=[_finite(point.learning_rate) for point in shown],
        measures={name: [_finite(point.measures.get(name)) for point in shown] for name in names},
        done=points[-1].step if points else 0,
        total=points[-1].steps if points else 0,
    )


def _places(losses: Sequence[float | None], most: int) -> list[int]:
    """Which points are shown: in each stretch the one with the greatest loss, or with none that is finite."""
    if len(losses) <= most:
        return list(range(len(losses)))
    # The last step stands for itself: it is where the training is.
    ends = [round(index * (len(losses) - 1) / (most - 1)) for index in range(most)]
    return [max(range(*stretch), key=lambda place: _height(losses[place])) for stretch in pairwise(ends)] + [ends[-1]]


def _height(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
