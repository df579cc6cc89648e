"""How adapters of one base are merged into one: the settings of a merge (what one did: `trainers.lineage.Merge`).

An adapter i adds Δ_i = s_i·B_i·A_i to a weight of its base, s_i being its scaling (Hu et al. 2021). All methods work on
these Δ_i; `trainers.adapters.deltas` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from trainers.errors import CannotMerge
from trainers.lineage import Method

DENSITY = {"ties": 0.2, "dare": 0.5}
"""What share of the entries is kept where none is given; for TIES as in its paper."""


class MergeConfig(BaseModel):
    """Settings of a merge.

    method: how the Δ_i become one Δ.
        "cat" stacks the factors, [w_1·A_1; …] and [B_1, …]: the weighted sum Σ w_i·Δ_i itself, at the sum of the ranks.
        "linear" is task arithmetic (Ilharco et al. 2023): the same sum, factored anew at the smallest rank that loses
        nothing. What peft calls `linear` adds the factors, (Σ √w_i·B_i)·(Σ √w_i·A_i), whose cross terms B_i·A_j belong
        to no adapter: for two unrelated adapters it is as far from the sum as no adapter at all.
        "svd" is the sum cut to `rank`, the best matrix of that rank (Eckart & Young 1936).
        "ties" trims each Δ_i to its largest entries, elects a sign for each entry and averages those that have it
        (Yadav et al. 2023; weights of λ are their λ). It trims weight by weight, where the paper trims the whole model.
        "dare" drops entries at random, scales up the rest and takes the sum (Yu et al. 2024).
    weights: one an adapter; without them each weighs 1. A negative one takes a skill away.
    rank: of the result of "svd" (default: the largest of the adapters'), "ties" and "dare" (default: the sum of
        theirs). The last two give matrices of full rank, of which only that much is kept: the record says what is lost.
    density: the share of the entries that "ties" and "dare" keep.
    seed: of the lots of "dare".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "cat"
    weights: tuple[float, ...] | None = None
    rank: int | None = Field(None, ge=1)
    density: float | None = Field(None, gt=0.0, le=1.0)
    seed: int = 0

    def of(self, count: int) -> tuple[float, ...]:
        """The weights of `count` adapters. Raises CannotMerge if others were given, or settings that do not belong."""
        for name, given, meant in (
            ("rank", self.rank, ("svd", "ties", "dare")),
            ("density", self.density, tuple(DENSITY)),
        ):
            if given is not None and self.method not in meant:
                raise CannotMerge(f"{self.method} has no {name}; only {', '.join(meant)} have; leave it out")
        found = (1.0,) * count if self.weights is None else self.weights
        if len(found) != count:
            raise CannotMerge(f"{count} adapters need as many weights; got {len(found)}; give one for each, in order")
        # Not-a-number is no weight either.
        if not all(0 < abs(weight) < float("inf") for weight in found):
            raise CannotMerge(f"the weights {_listed(found)} are not all finite and other than 0; leave an adapter out")
        return found

    @property
    def kept(self) -> float:
        """The share of the entries that is kept."""
        return DENSITY.get(self.method, 1.0) if self.density is None else self.density


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)
