"""Selection by what the environment said: won or not (ReST-EM), or a score that must rise (ReST)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.data.selectors.base import Context, Selected, Selection, Settings, sift


class Won(Settings):
    """Only won episodes: the binary filter of ReST-EM (Singh et al. 2023, §3), which restarts from the base."""

    kind: Literal["won"] = "won"

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        return sift(pool, context, lambda item: None if item.episode.won else "not won")


class Threshold(Settings):
    """Episodes whose score is at least a threshold that rises: ReST (Gulcehre et al. 2023).

    Episodes are collected once (Grow) and trained on several times (Improve), each time by a higher bar.

    at: the thresholds, rising; the last one stays.
    by: what counts them: `improve` the Improve steps since episodes were last collected, `round` the rounds.
    """

    kind: Literal["threshold"] = "threshold"
    at: list[Annotated[float, Field(ge=0.0, le=1.0)]] = Field(min_length=1)
    by: Literal["improve", "round"] = "improve"

    @model_validator(mode="after")
    def _rises(self) -> Threshold:
        if any(later <= earlier for earlier, later in pairwise(self.at)):
            raise ValueError(f"thresholds must rise; got {self.at}")
        return self

    def now(self, context: Context) -> float:
        """The threshold that holds in this context."""
        index = context.improve if self.by == "improve" else context.round - 1
        return self.at[min(index, len(self.at) - 1)]

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        bar = self.now(context)
        return sift(pool, context, lambda item: None if item.episode.score >= bar else "score below the threshold")
