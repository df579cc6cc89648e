"""What steers a series of rounds: the bar for good trajectories (Agent-R), and early stopping.

Each is a record whose whole state is what it was told, by round: it can be kept as JSON, and telling it the same round
again changes nothing, so that a round which is done twice after a kill steers as one.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field


class AlphaSchedule(BaseModel):
    """The value above which a trajectory is good enough to splice in, by iteration: Agent-R (Yuan et al. 2025).

    It rises, so that later revisions end in better trajectories.

    values: one an iteration; the last stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    values: list[float] = Field([0.5, 0.7, 1.0], min_length=1)

    def at(self, iteration: int) -> float:
        """α of an iteration, counted from 1; the last value stays. Raises ValueError before the first."""
        if iteration < 1:
            raise ValueError(f"iterations count from 1; got {iteration}")
        return self.values[min(iteration, len(self.values)) - 1]


class EarlyStop(BaseModel):
    """Ends a series of rounds when the held-out score no longer rises; the best round is the one to keep.

    patience: rounds without a gain after which it ends. min_gain: what counts as a gain. scores: by round, how much
    higher the held-out score is than before the first one; None where nothing was measured, which counts neither way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patience: int = Field(2, ge=1)
    min_gain: float = Field(0.0, ge=0.0)
    scores: dict[int, float | None] = {}

    def after(self, round_number: int, score: float | None) -> EarlyStop:
        """What is known after a round."""
        return self.model_copy(update={"scores": self.scores | {round_number: score}})

    @property
    def best(self) -> int | None:
        """The round to keep: the last that gained on all before it; None before the first gain."""
        return self._course[0]

    @property
    def stop(self) -> bool:
        """Whether `patience` measured rounds have passed without a gain."""
        return self._course[1] >= self.patience

    @property
    def _course(self) -> tuple[int | None, int]:
        """The best round, and the measured rounds since."""
        best, top, since = None, 0.0, 0
        for number, score in sorted(self.scores.items()):
            if score is None or math.isnan(score):
                continue
            if score > top + self.min_gain:
                best, top, since = number, score, 0
            else:
                since += 1
        return best, since
