"""Rates and comparisons of success, for few and paired trials. Pure Python, exact where it can be.

`wilson` gives the interval of one rate, `mcnemar` the p-value of a paired comparison, `difference_interval` the
interval of its difference, and `paired` all of these from the results of two arms. `holm` corrects several p-values for
each other, and `bootstrap_ratio` gives the interval of a ratio of two paired differences.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
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

    def lost(self, alpha: float, p: float | None = None) -> bool:
        """Whether `a` is credibly worse than `b`: below it, with a p-value under `alpha`.

        `p` is the p-value where it was corrected for those of other comparisons.
        """
        return self.difference < 0 and (self.p if p is None else p) < alpha


def p_text(p: float, equals: str = "") -> str:
    """A p-value as a table shows it: `0.0412`, `< 0.0001`; in a sentence, with "= " as `equals`, it follows "p "."""
    return "< 0.0001" if p < 0.0001 else f"{equals}{p:.4f}"


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


def holm(ps: Sequence[float]) -> list[float]:
    """P-values corrected for each other (Holm 1979), in the order given: those below alpha are all true with 1 - alpha.

    It holds whatever the tests have to do with each other, and loses less than Bonferroni's correction.
    """
    corrected, worst = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = worst
    return corrected


class Ratio(BaseModel):
    """A ratio with its interval; `value`, `low` and `high` are None where it means nothing.

    `below` and `above` are the interval of the denominator.
    """

    model_config = ConfigDict(frozen=True)

    value: float | None
    low: float | None
    high: float | None
    below: float
    above: float


def bootstrap_ratio(
    strata: Sequence[Sequence[tuple[float, float]]],
    *,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Ratio:
    """The ratio of two means over the same tasks, with its percentile interval (Efron & Tibshirani 1993, ch. 13).

    Each task gives (numerator, denominator); tasks are drawn with both, and within their stratum, whose sizes stand. A
    ratio means nothing where its denominator may be 0 or less, that is where the denominator's interval touches 0.
    Draws with such a denominator, if they are few, count as infinitely large or small. The same seed gives the same
    interval. Raises ValueError if there is no task.
    """
    tasks = [pair for stratum in strata for pair in stratum]
    if not tasks:
        raise ValueError("a ratio needs tasks; none was played by all arms; play some")
    rng = random.Random(seed)
    drawn = [_sums(pair for stratum in strata for pair in rng.choices(stratum, k=len(stratum))) for _ in range(draws)]
    top, bottom = _sums(tasks)
    below, above = _percentiles([sums[1] / len(tasks) for sums in drawn], confidence)
    if below <= 0:
        return Ratio(value=None, low=None, high=None, below=below, above=above)
    low, high = _percentiles([a / b if b > 0 else math.copysign(math.inf, a) for a, b in drawn], confidence)
    return Ratio(value=top / bottom, low=low, high=high, below=below, above=above)


def _sums(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    top = bottom = 0.0
    for one, other in pairs:
        top += one
        bottom += other
    return top, bottom


def _percentiles(values: list[float], confidence: float) -> tuple[float, float]:
    """The values that cut off half of the rest at either end, the outer ones where they fall between two."""
    values.sort()
    cut = int(len(values) * (1 - confidence) / 2)
    return values[cut], values[-cut - 1]
