"""Selection by distribution shift: IWSI (Jiang et al. 2025).

Correct episodes that are unlike what the model is to be good at can still harm. How unlike is read off two losses: that
of the episode, and the mean of trusted validation episodes.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trainers.data.selectors.base import Context, Selected, Selection, Settings, draw, sift
from trainers.errors import CannotSelect

CLIP = 2.0
MOST = 5.0


def ds_weight(validation_loss: float, loss: float) -> float:
    """The distribution shift weight: validation loss / loss, clipped to [0, 2]. Both in nats a token.

    The authors' code takes the greater of weight and 2 in two of its modes, where the lesser is meant.
    """
    return CLIP if loss <= 0 else min(max(validation_loss / loss, 0.0), CLIP)


def shift_extent(weight: float) -> float:
    """The distribution shift extent (DSE) of a DS weight: 1 where there is no shift, at most 5."""
    if weight > 1:
        return weight
    return MOST if weight <= 0 else min(1 / weight, MOST)


class Importance(Settings):
    """The share of episodes whose loss is most like that of the validation episodes.

    share: of the episodes, by the lowest shift extent, that is kept; at least one is.
    weigh: also weigh what is kept by its DS weight.
    """

    kind: Literal["importance"] = "importance"
    share: float = Field(0.79, gt=0.0, le=1.0)
    weigh: bool = False

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        loss, trusted = context.need("loss", self.kind), context.need("validation", self.kind)
        scale = math.fsum(loss(episode) for episode in trusted) / len(trusted)
        if not math.isfinite(scale):
            raise CannotSelect(
                f"the validation episodes have the mean loss {scale}; no weight can be read off it; check them"
            )
        losses = {item.episode.id: loss(item.episode) for item in pool}
        weights = {id: ds_weight(scale, value) for id, value in losses.items() if math.isfinite(value)}
        ranked = sorted(weights, key=lambda id: (shift_extent(weights[id]), draw(context.seed, id, "importance|")))
        near = set(ranked[: max(1, int(self.share * len(ranked)))])

        def reason(item: Selected) -> str | None:
            if item.episode.id not in weights:
                return "loss is not finite"
            return None if item.episode.id in near else "shifted too far"

        kept = sift(pool, context, reason)
        if not self.weigh:
            return kept
        return kept.model_copy(update={"selected": [item.times(weights[item.episode.id]) for item in kept.selected]})
