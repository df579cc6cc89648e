"""How credit is measured, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

USUAL = 0.5
"""From this probability of being served on, a lot is one about what is in use: it serves at least as often as not. A
lot about what is on probation serves less often."""


@dataclass(frozen=True, slots=True)
class CreditConfig:
    """How credit is measured, and what follows from it.

    Attributes:
        hold_out: the probability with which a chosen item is held out; 0 measures nothing.
        max_cost: the share of served episodes that holding out may cost, as far as it can be estimated.
        level: the credible level of intervals.
        bench_at: how sure it must be that an item is harmful before it is benched: one that does no harm is ever
            benched with a probability of at most `1 - bench_at`, however often it is reviewed (see `eprocess`).
        min_n: episodes served, and episodes held out, without which nothing is benched.
        prior: how many episodes the prior is worth (see `uplift`).
        probation: the share of episodes that may be served what came from outside and is on probation; 0 serves none.
    """

    hold_out: float = 0.1
    max_cost: float = 0.02
    level: float = 0.95
    bench_at: float = 0.95
    min_n: int = 10
    prior: float = 10.0
    probation: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.hold_out <= 0.5:
            raise ValueError(f"The probability of holding out must lie in [0, 0.5], not {self.hold_out}; 0 is off.")
        if not 0 <= self.max_cost <= 1:
            raise ValueError(f"The cost of holding out is a share of episodes in [0, 1], not {self.max_cost}.")
        if not 0 <= self.probation < USUAL:
            raise ValueError(
                f"The share of probation must lie in [0, {USUAL}), not {self.probation}; 0 serves nothing."
            )
        if not 0 < self.level < 1 or not 0.5 < self.bench_at < 1:
            raise ValueError("The level of credit must lie in (0, 1), the certainty of benching in (0.5, 1).")
        if self.min_n < 1 or self.prior <= 0:
            raise ValueError("Credit needs at least 1 episode on each side and a prior worth more than none.")
