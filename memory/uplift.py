"""What an item changes: success with it served against success with it withheld, with an interval and a test.

Counts are arrays of shape (…, 4): episodes served, of them won, episodes withheld, of them won. Only episodes in which
a lot decided between the two belong there, each stratum (environment and odds of the lot) by itself: within a stratum
the two sides differ by chance and by the item, and by nothing else.

Each side of a stratum is a Beta posterior. Its prior is worth `prior` episodes at the rate of all the item's own
episodes there, which in turn leans on the environment's base rate. So the prior pulls the uplift towards 0 and never
away from it: a prior at the base rate itself would pull the small withheld side more than the large served one, and
count an item as harmful for being recalled where games are hard. Strata are combined by their shares of the episodes.

An item that began unluckily is chosen less often, so that its bad luck stands longer; this bends every estimate on data
that were gathered by looking at them. A posterior does not mind how the data were gathered, as long as its prior is
fair: averaged over items like those that the prior expects (uplifts of 0 ± `sqrt(2 r (1 - r) / (prior + 1))`) intervals
hold what they promise. For the best items taken alone they hold a little less, for useless ones a little more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from memory.recalls import RecallEvidence

FINENESS = 32
"""Steps of the grid to one standard deviation of the uplift."""

TAIL = 1e-8
"""What the grid leaves out at each end of a side."""


@dataclass(frozen=True, slots=True)
class Uplift:
    """By how much being served changes the probability of success, in [-1, 1].

    Attributes:
        mean: the posterior mean.
        low, high: the central interval at the level asked for.
        below: the posterior probability that the uplift is below 0.
        p: the exact two-sided test of no effect (see `exact_test`).
        served, served_won, withheld, withheld_won: the episodes on which it rests.
    """

    mean: float
    low: float
    high: float
    below: float
    p: float
    served: int
    served_won: int
    withheld: int
    withheld_won: int

    def __str__(self) -> str:
        return (
            f"uplift {self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}], P(<0) {self.below:.2f}; served "
            f"{self.served} (won {self.served_won}), withheld {self.withheld} (won {self.withheld_won}), p {self.p:.2g}"
        )


def posteriors(counts: np.ndarray, base: np.ndarray | float, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """The Beta parameters a and b, each (…, 2), of success served and withheld; `base` (…) is in (0, 1)."""
    import numpy as np

    n, won = counts[..., 0::2], counts[..., 1::2]
    centre = (won.sum(-1) + prior * np.asarray(base)) / (n.sum(-1) + prior)
    return won + prior * centre[..., None], n - won + prior * (1 - centre[..., None])


def moments(counts: np.ndarray, base: np.ndarray | float, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of the uplift, each (…)."""
    a, b = posteriors(counts, base, prior)
    mean = a / (a + b)
    return mean[..., 0] - mean[..., 1], (mean * (1 - mean) / (a + b + 1)).sum(-1)


def sample(counts: np.ndarray, base: np.ndarray | float, prior: float, uniform: np.ndarray) -> np.ndarray:
    """One posterior sample (…) of the uplift, made from the random numbers `uniform` (…, 2) in (0, 1)."""
    from scipy.special import betaincinv

    sides = betaincinv(*posteriors(counts, base, prior), uniform)
    return sides[..., 0] - sides[..., 1]


def suspects(mean: np.ndarray, variance: np.ndarray, certainty: float) -> np.ndarray:
    """Where the probability of a negative uplift may reach `certainty`, by the normal approximation and generously."""
    import numpy as np
    from scipy.special import ndtri

    return mean < (0.5 - ndtri(certainty)) * np.sqrt(variance)


def estimate(counts: np.ndarray, base: np.ndarray, prior: float, level: float) -> Uplift:
    """The uplift of one item over its strata: `counts` (strata, 4), `base` (strata,).

    The distribution of the weighted sum of Beta posteriors is worked out on a grid, without sampling.
    """
    import numpy as np
    from scipy.special import betainc, betaincinv

    a, b = posteriors(counts, base, prior)
    weights = shares(counts)
    sides = a / (a + b)
    spread = np.sqrt(sides * (1 - sides) / (a + b + 1))
    step = float(np.sqrt((weights[:, None] ** 2 * spread**2).sum())) / FINENESS
    mass, first = np.ones(1), 0
    for stratum, weight in enumerate(weights):
        for side in (0, 1):
            ends = betaincinv(a[stratum, side], b[stratum, side], [TAIL, 1 - TAIL]) * weight / step
            cells = np.arange(math.floor(ends[0]), math.ceil(ends[1]) + 1)
            edges = np.clip((np.append(cells, cells[-1] + 1) - 0.5) * step / weight, 0, 1)
            part = np.diff(betainc(a[stratum, side], b[stratum, side], edges))
            # The withheld side is subtracted: the same cells, mirrored.
            mass = np.convolve(mass, part[::-1] if side else part)
            first += -int(cells[-1]) if side else int(cells[0])
    below = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    edges = (first - 0.5 + np.arange(len(below))) * step
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], below, edges)
    served, served_won, withheld, withheld_won = (int(n) for n in counts.sum(0))
    mean = float((weights * (sides[:, 0] - sides[:, 1])).sum())
    return Uplift(
        mean, float(low), float(high), float(np.interp(0.0, edges, below)), exact_test(counts),
        served, served_won, withheld, withheld_won,
    )  # fmt: skip


def shares(counts: np.ndarray) -> np.ndarray:
    """The weight (strata,) of each stratum: its share of the episodes."""
    n = counts[:, 0] + counts[:, 2]
    return n / n.sum() if n.sum() else n * 0.0 + 1 / len(n)


def exact_test(counts: np.ndarray) -> float:
    """The two-sided p-value of no effect in any stratum, given the margins of each: `counts` (strata, 4).

    The number of wins served is a sum of hypergeometric variables; the p-value is the probability of all sums that are
    no likelier than the one seen. One stratum makes it Fisher's exact test, several the exact form of Mantel and
    Haenszel's (1959).
    """
    import numpy as np
    from scipy.special import gammaln

    def choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    mass, first = np.ones(1), 0
    for served, served_won, withheld, withheld_won in np.asarray(counts, dtype=float):
        won = served_won + withheld_won
        k = np.arange(max(0, won - withheld), min(served, won) + 1)
        logs = choose(served, k) + choose(withheld, won - k) - choose(served + withheld, won)
        mass = np.convolve(mass, np.exp(logs))
        first += int(k[0])
    seen = mass[int(counts[:, 1].sum()) - first]
    return float(min(1.0, mass[mass <= seen * (1 + 1e-7)].sum()))


class Strata:
    """The evidence on many items at once, one row a stratum; an item without any has one empty row.

    Args:
        ids: the items.
        evidence: rows of these items, in any order.
        rates: the base rate of each environment, in (0, 1); 1/2 where none is known.
        prior: how many episodes the prior is worth on each side.
        env: the environment of items without evidence.
    """

    def __init__(
        self,
        ids: Sequence[str],
        evidence: Sequence[RecallEvidence],
        rates: Mapping[str, float],
        prior: float,
        env: str = "",
    ) -> None:
        import numpy as np

        self.ids = list(ids)
        self.prior = prior
        place = {id: index for index, id in enumerate(self.ids)}
        rows = sorted((place[row.reflection], row.env, row.propensity, *row[3:]) for row in evidence)
        bare = sorted({*range(len(self.ids))} - {row[0] for row in rows})
        self.names = [(self.ids[item], stratum, odds) for item, stratum, odds, *_ in rows]
        self.names += [(self.ids[item], env, 0.0) for item in bare]
        self.item = np.array([*(row[0] for row in rows), *bare], dtype=int)
        # Most have no evidence, and are alike.
        self.base = np.full(len(self.names), rates.get(env, 0.5))
        self.counts = np.zeros((len(self.names), 4))
        if rows:
            self.base[: len(rows)] = [rates.get(row[1], 0.5) for row in rows]
            self.counts[: len(rows)] = [row[3:] for row in rows]
        n = self.counts[:, 0] + self.counts[:, 2]
        total, rows_each = self._summed(n), self._summed(np.ones_like(n))
        with np.errstate(invalid="ignore"):
            self.weights = np.where(total[self.item] > 0, n / total[self.item], 1 / rows_each[self.item])

    def _summed(self, values: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.bincount(self.item, values, minlength=len(self.ids))

    def totals(self) -> np.ndarray:
        """The counts of each item over its strata: (items, 4)."""
        import numpy as np

        return np.stack([self._summed(column) for column in self.counts.T], axis=-1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance of each item's uplift, each (items,)."""
        mean, variance = moments(self.counts, self.base, self.prior)
        return self._summed(self.weights * mean), self._summed(self.weights**2 * variance)

    def sample(self, uniform: np.ndarray) -> np.ndarray:
        """One posterior sample (items,) of each uplift from the random numbers `uniform` (rows, 2)."""
        return self._summed(self.weights * sample(self.counts, self.base, self.prior, uniform))

    def estimate(self, index: int, level: float) -> Uplift:
        """Everything about the item at `index`."""
        rows = self.item == index
        return estimate(self.counts[rows], self.base[rows], self.prior, level)
