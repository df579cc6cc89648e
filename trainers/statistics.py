"""Rates and comparisons of success, for few and paired trials. Pure Python, exact where it can be.

`wilson` gives the interval of one rate, `mcnemar` the p-value of a paired comparison, `difference_interval` the
interval of its difference, and `paired` all of these from the results of two arms.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from statistics import NormalDist
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

Key = TypeVar("Key", bound=Hashable)


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a success rate (Wilson 1927): `(low, high)` in [0, 1].

    Unlike the plain normal interval it stays inside [0, 1] and is honest for few trials and rates near 0 or 1.
    No trials give (0, 1). A sum of `n` values between 0 and 1 may stand for the successes; such values vary less than
    trials do, so the interval is then wide enough. Raises ValueError if `successes` is not in 0..n or `confidence` not
    in (0, 1).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n; got {successes} of {n}; count each trial once")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1; got {confidence}; use for example 0.95")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n successes one end is exactly 0 or 1; rounding must not put it a hair inside.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return low, high


def mcnemar(b: int, c: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947) for `b` and `c` discordant pairs.

    Under the null each discordant pair falls to either side with probability 1/2, so the p-value is twice the smaller
    tail of Binomial(b + c, 1/2), at most 1. Raises ValueError for negative counts.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts of pairs cannot be negative; got {b} and {c}; count discordant pairs")
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2**n)


class Paired(BaseModel):
    """Two arms on the same tasks and seeds: how often both, only one, or neither succeeded.

    `difference` is rate(a) − rate(b) over the `n` shared pairs, `interval` its 95 % interval (see
    `difference_interval`); `p` is McNemar's exact two-sided p-value.
    """

    model_config = ConfigDict(frozen=True)

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    difference: float
    interval: tuple[float, float] = (-1.0, 1.0)


def difference_interval(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of rate(a) − rate(b) from paired counts (Newcombe 1998, method 10): `(low, high)` in [-1, 1].

    It joins the two Wilson intervals, narrowed by the correlation of the pairs. No pairs give (-1, 1).
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return -1.0, 1.0
    a, b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = wilson(both + only_a, n, confidence)
    low_b, high_b = wilson(both + only_b, n, confidence)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    product = float(both * neither - only_a * only_b)
    # The continuity correction applies to positive association only.
    product = max(product - n / 2, 0.0) if product > 0 else product
    phi = product / math.sqrt(margins) if margins else 0.0

    def joined(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))

    return (a - b) - joined(a - low_a, high_b - b), (a - b) + joined(high_a - a, b - low_b)


def paired(a: Mapping[Key, bool], b: Mapping[Key, bool]) -> Paired:
    """Compare two arms over the keys that both have; keys of one arm only are left out."""
    shared = a.keys() & b.keys()
    both = sum(1 for key in shared if a[key] and b[key])
    only_a = sum(1 for key in shared if a[key] and not b[key])
    only_b = sum(1 for key in shared if b[key] and not a[key])
    n = len(shared)
    return Paired(
        n=n,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=n - both - only_a - only_b,
        p=mcnemar(only_a, only_b),
        difference=(only_a - only_b) / n if n else 0.0,
        interval=difference_interval(both, only_a, only_b, n - both - only_a - only_b),
    )
