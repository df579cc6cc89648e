"""The mix of a round: new episodes, old ones replayed, general texts and fixed anchors, against forgetting.

A little suffices (1 % in Continual-T0, Scialom et al. 2022); how often an episode is replayed falls as a power law of
its age, as human forgetting does (Wixted & Ebbesen 1991).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from trainers.data.selectors.base import Context, Selected, Selection, Settings, apportion, ordered, sample, sift


class Rehearsal(Settings):
    """Shares of new episodes, replayed ones, general texts and anchors; they sum to 1.

    new: episodes that no earlier round was trained on (`Context.history`).
    replay: episodes of earlier rounds; one of age a, in rounds, is drawn in proportion to a^−decay.
    general: of `Context.general`; anchor: of `Context.anchors`. Both by lot.
    size: examples in all; None: all new ones, or where there are none all old ones, and what belongs to them.

    Nothing is taken twice: a source that has too little is said in `Selection.short_of`, and the others stay as they
    are.
    """

    kind: Literal["rehearsal"] = "rehearsal"
    new: float = Field(0.85, ge=0.0, le=1.0)
    replay: float = Field(0.1, ge=0.0, le=1.0)
    general: float = Field(0.04, ge=0.0, le=1.0)
    anchor: float = Field(0.01, ge=0.0, le=1.0)
    decay: float = Field(0.5, ge=0.0)
    size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Rehearsal:
        total = math.fsum(self.shares.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of new, replay, general and anchor must sum to 1; they sum to {total:g}")
        return self

    @property
    def shares(self) -> dict[str, float]:
        return {"new": self.new, "replay": self.replay, "general": self.general, "anchor": self.anchor}

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        anchors = {episode.id: episode for episode in context.anchors}
        texts = {text.id: text for text in context.general}
        stocks: dict[str, dict[str, float]] = {
            "new": {},
            "replay": {},
            "general": dict.fromkeys(texts, 1.0),
            "anchor": dict.fromkeys(anchors, 1.0),
        }
        for item in pool:
            id = item.episode.id
            age = context.round - context.history.get(id, context.round)
            if id in anchors:
                continue
            if age > 0:
                stocks["replay"][id] = age**-self.decay
            else:
                stocks["new"][id] = 1.0
        quotas = self.quotas({name: len(stock) for name, stock in stocks.items()})
        taken = {name: sample(stocks[name], quotas[name], context.seed, f"{name}|") for name in stocks}

        def reason(item: Selected) -> str | None:
            id = item.episode.id
            source = next(name for name in ("anchor", "replay", "new") if id in stocks[name])
            return None if id in taken[source] else f"share of {source} is full"

        kept = sift(pool, context, reason)
        inside = {item.episode.id for item in pool}
        more = [Selected(episode=anchors[id]) for id in taken["anchor"] - inside]
        return Selection(
            selected=ordered([*kept.selected, *more], context.seed),
            left_out=kept.left_out,
            short_of={name: quotas[name] - len(taken[name]) for name in quotas if quotas[name] > len(taken[name])},
            texts=[texts[id] for id in sorted(taken["general"])],
        )

    def quotas(self, stock: Mapping[str, int]) -> dict[str, int]:
        """How many of each source belong into the mix, given how many there are."""
        shares = self.shares
        if self.size is not None:
            return apportion(self.size, shares)
        leading = next((name for name in ("new", "replay") if stock[name] and shares[name]), None)
        if leading is None:
            return dict.fromkeys(shares, 0)
        share = shares.pop(leading)
        return {leading: stock[leading], **apportion(round(stock[leading] * (1 - share) / share), shares)}
