"""How far two adapters lie apart: their updates of the weights, compared without ever being multiplied out.

An adapter adds ΔW = s·B·A to a weight (Hu et al. 2021). Norms and inner products of two such products need only
matrices of rank × rank: ⟨B₁A₁, B₂A₂⟩ = Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from trainers.adapters.deltas import Factors

ALL = "all"


class Distance(BaseModel):
    """The updates of all layers of one kind of module (`q_proj`, `down_proj` …), or of `all`, side by side.

    `norm_a` and `norm_b` are Frobenius norms, `relative` is ‖ΔA − ΔB‖ / ‖ΔA‖, `cosine` that of the angle between both;
    None where an update is zero.
    """

    group: str
    layers: int
    norm_a: float
    norm_b: float
    relative: float | None
    cosine: float | None


def distances(a: Path, b: Path) -> list[Distance]:
    """Compare the adapters in two folders, kind by kind, and all together last.

    A module that only one of them changes is compared with no change. Raises CannotMerge if one is more than a plain
    LoRA, BadAdapter if it is damaged.
    """
    from trainers.adapters.deltas import read

    ours, theirs = read(a), read(b)
    modules = sorted({*ours, *theirs})
    groups: dict[str, list[str]] = {}
    for module in modules:
        groups.setdefault(module.rpartition(".")[2], []).append(module)
    inner: dict[str, tuple[float, float, float]] = {}
    for module in modules:
        one, other = ours.get(module), theirs.get(module)
        inner[module] = (_inner(one, one), _inner(other, other), _inner(one, other))
    return [_distance(name, [inner[module] for module in members]) for name, members in groups.items()] + [
        _distance(ALL, inner.values())
    ]


def _distance(group: str, products: Iterable[tuple[float, float, float]]) -> Distance:
    rows = list(products)
    aa, bb, ab = (math.fsum(row[place] for row in rows) for place in range(3))
    return Distance(
        group=group,
        layers=len(rows),
        norm_a=math.sqrt(aa),
        norm_b=math.sqrt(bb),
        # Rounding must not make the square of a small distance negative.
        relative=math.sqrt(max(0.0, aa + bb - 2 * ab) / aa) if aa else None,
        cosine=max(-1.0, min(1.0, ab / math.sqrt(aa * bb))) if aa and bb else None,
    )


def _inner(one: Factors | None, other: Factors | None) -> float:
    """⟨ΔW₁, ΔW₂⟩, which is 0 where one of them changes nothing."""
    if one is None or other is None:
        return 0.0
    return float(((one.b.double().T @ other.b.double()) * (one.a.double() @ other.a.double().T)).sum())
