"""Where an adapter comes from: the ids behind its data, and the merge that made it, if it was not trained.

A job carries it from the lab to wherever it is trained, and the adapter's record keeps it.
"""

from __future__ import annotations

import operator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Method = Literal["cat", "linear", "svd", "ties", "dare"]


class Merge(BaseModel):
    """What a merge did.

    `weights` are by the id of the adapter, in the order in which they were merged. `error` is how far the result is
    from the exact weighted sum Σ w_i·Δ_i, and `truncation` how far from what the method aims at, for want of rank; both
    as the norm of the difference over that of what it is compared with (Frobenius, all weights of the model together).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    weights: dict[str, float]
    rank: int
    density: float | None = None
    seed: int | None = None
    error: float
    truncation: float

    def __str__(self) -> str:
        return f"{' + '.join(f'{weight:g} × {id}' for id, weight in self.weights.items())} ({self.method})"


class Member(BaseModel):
    """Which agent of a society an adapter is (Subramaniam et al. 2025): a generator, which answers alone, or a critic,
    which answers again once it has seen what all generators came to.

    `number` counts the `agents` of each kind from 1. `told` says whether the critics were told how the attempts that
    they saw had ended. `temperature` is that at which they played.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["generator", "critic"]
    number: int = Field(ge=1)
    agents: int = Field(ge=1)
    told: bool = True
    temperature: float = Field(1.0, gt=0.0)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.number}"

    def __str__(self) -> str:
        return f"{self.name} of {self.agents}"


class Lineage(BaseModel):
    """Where an adapter's data came from, by id.

    `kl_episodes` are those of its KL regularisation to the base, on which nothing was taught. `merge` is how it was
    made of others, if it was not trained; `member` which agent of a society it is, if it was trained as one.
    """

    model_config = ConfigDict(extra="forbid")

    round: str | None = None
    parent: str | None = None
    episodes: list[str] = []
    reflections: list[str] = []
    kl_episodes: list[str] = []
    seeds: list[int] = []
    code_version: str = ""
    merge: Merge | None = None
    member: Member | None = Field(None, exclude_if=operator.not_)

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, fields: Any) -> Any:
        """What earlier versions wrote, under the names of this one."""
        if isinstance(fields, dict) and "held" in fields:
            return {"kl_episodes": fields["held"], **{name: one for name, one in fields.items() if name != "held"}}
        return fields
