"""Settings of a router, which an arm names: `skills(A,B)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentlab.errors import BadConfig


@dataclass(frozen=True)
class RouterConfig:
    """Settings of a router.

    Attributes:
        skills: ids of adapters.
        temperature: of the softmax over cosines; towards 0 the nearest skill plays alone, above 1 all weigh the same.
        bound: weights below it are set to 0, the largest one never.
        steps: weights are multiples of 1/steps, so that few compositions are made and kept.
    """

    skills: tuple[str, ...]
    temperature: float = 0.1
    bound: float = 0.1
    steps: int = 10

    def __post_init__(self) -> None:
        if len(set(self.skills)) < 2 or len(set(self.skills)) < len(self.skills):
            raise BadConfig(
                f"A router needs two or more different skills; it was given {list(self.skills)}; name them."
            )
        if not (self.temperature > 0 and 0 <= self.bound <= 1 and self.steps >= 1):
            raise BadConfig(
                f"A router with temperature {self.temperature}, bound {self.bound} and {self.steps} steps makes no "
                "sense; the temperature is above 0, the bound between 0 and 1, and there is at least one step."
            )

    @property
    def name(self) -> str:
        """How it is called in tables and records."""
        return f"skills({','.join(self.skills)})"

    def weights(self, cosines: Sequence[float]) -> dict[str, float]:
        """The weights of the skills that serve, by id; they sum to 1."""
        top = max(cosines)
        raised = [math.exp((cosine - top) / self.temperature) for cosine in cosines]
        shares = [value / sum(raised) for value in raised]
        kept = [share if share >= self.bound or share == max(shares) else 0.0 for share in shares]
        # Largest remainders: the rounded weights sum to 1 as well.
        exact = [share / sum(kept) * self.steps for share in kept]
        counts = [math.floor(share) for share in exact]
        order = sorted(range(len(exact)), key=lambda at: (counts[at] - exact[at], at))
        for at in order[: self.steps - sum(counts)]:
            counts[at] += 1
        return {skill: count / self.steps for skill, count in zip(self.skills, counts, strict=True) if count}


def parse(text: str, resolve: Callable[[str], str]) -> RouterConfig:
    """Read `skills(A,B)` or `skills(A,B,temperature=0.2)`; `resolve` makes a full id of what stands for a skill.

    Raises BadConfig if it is not of that form.
    """
    parts = [part.strip() for part in text.removeprefix("skills(").removesuffix(")").split(",")]
    settings: dict[str, float] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if not sign:
            continue
        try:
            settings[name.strip()] = {"temperature": float, "bound": float, "steps": int}[name.strip()](value)
        except (KeyError, ValueError):
            raise BadConfig(
                f"'{part}' in '{text}' is no setting of a router; write skills(A,B,temperature=0.1,bound=0.1,steps=10)."
            ) from None
    if not text.startswith("skills(") or not text.endswith(")") or not all(parts):
        raise BadConfig(f"'{text}' names no skills; write skills(A,B) with the ids of adapters.")
    skills = tuple(resolve(part) for part in parts if "=" not in part)
    return RouterConfig(skills, **settings)  # type: ignore[arg-type]
