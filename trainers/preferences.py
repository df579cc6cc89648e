"""Pairs of trajectories of one task, of which one is better: what preference objectives are trained on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from memory.records import Episode


class Preference(BaseModel):
    """`better` is to be preferred to `worse`. Both have their first `shared` steps in common, which carry no loss;
    what is compared are the steps from `shared` on. `source` names what built the pair."""

    model_config = ConfigDict(frozen=True)

    better: Episode
    worse: Episode
    shared: int
    weight: float = 1.0
    source: str
