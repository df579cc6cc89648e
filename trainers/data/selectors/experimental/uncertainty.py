"""Selection by certainty: UPO (Wang et al. 2025), with the information gain of BALD (Houlsby et al. 2011).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trainers.data.selectors.base import Context, Selected, Selection, Settings, sample, sift
from trainers.errors import CannotSelect


def _entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def bald(logprobs: Sequence[float]) -> float:
    """What the passes disagree about: entropy of their mean minus the mean of their entropies, in [0, ln 2] nats.

    `logprobs` are the log-probabilities of "right" that passes with dropout gave. Raises ValueError if there are none
    or one is above 0.
    """
    if not logprobs or not all(value <= 0 for value in logprobs):
        raise ValueError(f"log-probabilities of at least one pass are needed, none above 0; got {list(logprobs)}")
    chances = [math.exp(value) for value in logprobs]
    gain = _entropy(math.fsum(chances) / len(chances)) - math.fsum(map(_entropy, chances)) / len(chances)
    return max(0.0, gain)


class Uncertainty(Settings):
    """A share of the episodes, drawn without replacement with chances in proportion to (1 − BALD)^sharpness.

    share: of the episodes that is kept.
    passes: with dropout, for each episode.
    dropout: its probability; with 0 all passes agree, and the draw is even.
    sharpness: the exponent μ; 1 takes the chances as they are, more prefers the certain more.
    """

    kind: Literal["uncertainty"] = "uncertainty"
    share: float = Field(0.5, gt=0.0, le=1.0)
    passes: int = Field(10, ge=2)
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    sharpness: float = Field(1.0, gt=0.0)

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        passes = context.need("passes", self.kind)
        chances = {}
        for item in pool:
            logprobs = passes(item.episode, self.passes, self.dropout)
            if not logprobs:
                continue
            if len(logprobs) != self.passes or not all(value <= 0 for value in logprobs):
                raise CannotSelect(
                    f"the passes gave {list(logprobs)} for episode {item.episode.id}; {self.passes} log-probabilities "
                    "were asked for, none above 0; mend `Context.passes`"
                )
            chances[item.episode.id] = (1 - bald(logprobs)) ** self.sharpness
        kept = sample(chances, math.ceil(self.share * len(chances)), context.seed, "uncertainty|")

        def reason(item: Selected) -> str | None:
            if item.episode.id not in chances:
                return "cannot be scored"
            return None if item.episode.id in kept else "uncertain"

        return sift(pool, context, reason)
