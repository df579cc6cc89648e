"""What an item changes: success with it served against success with it held out, with an interval and a test.

Counts are arrays of shape (…, 4): episodes served, of them won, episodes held out, of them won. Only episodes in which
a lot decided between the two belong there, each stratum (environment and odds of the lot) by itself: within a stratum
the two sides differ by chance and by the item, and by nothing else.

The uplift of a stratum is the difference of its two rates, shrunk towards 0 by n / (n + prior), where n = 1 / (1 / n₁ +
1 / n₀) is what the n₁ episodes served and the n₀ held out are worth together (a normal prior of variance r (1 - r) /
prior for the effect, none for the rate r). So both sides are pulled by one share to one rate, that of the item's own
episodes, and the estimate always lies between 0 and the difference that was seen; pulled by unequal shares, sides of
unequal size would make an uplift of nothing. The base rate of the environment only has a part in the width. Strata are
combined by their shares of the episodes; posteriors are taken as normal.

An item that began unluckily is chosen less often, so that its bad luck stands longer; this bends every estimate on data
that were gathered by looking at them. A posterior does not mind how the data were gathered, as long as its prior is
fair: averaged over items like those that the prior expects intervals hold what they promise. For the best items taken
alone they hold a little less, for useless ones a little more. What must err no more often than promised, however often
one looks, is decided by `Strata.harm` and `Strata.help` (`eprocess`), not by an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.credit.eprocess import log_e_value, log_stakes, mirrored

if TYPE_CHECKING:
    import numpy as np

    from memory.store.recalls import RecallEvidence


@dataclass(frozen=True, slots=True)
class Uplift:
    """By how much being served changes the probability of success, in [-1, 1].

    Attributes:
        mean: the posterior mean.
        low, high: the central interval at the level asked for, in [-1, 1].
        below: the posterior probability that the uplift is below 0.
        p: the exact two-sided test of no effect (see `exact_test`).
        served, served_won, held_out, held_out_won: the episodes on which it rests.
    """

    mean: float
    low: float
    high: float
    below: float
    p: float
    served: int
    served_won: int
    held_out: int
    held_out_won: int

    def __str__(self) -> str:
        return (
            f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}], harmful with probability {self.below:.2f}; won "
            f"{self.served_won} of {self.served} served, {self.held_out_won} of {self.held_out} held out; p (exact) "
            f"{self.p:.2g}"
        )


def moments(counts: np.ndarray, base: np.ndarray | float, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of the uplift, each (…); `base` (…) is in (0, 1)."""
    import numpy as np

    n, won = counts[..., 0::2], counts[..., 1::2]
    both = n.prod(-1)
    # Without any episode only the prior is left, half of it on either side.
    whole = np.where(n.sum(-1) > 0, both + prior * n.sum(-1), 2 * prior)
    mean = (won[..., 0] * n[..., 1] - won[..., 1] * n[..., 0]) / whole
    centre = (won.sum(-1) + prior * np.asarray(base)) / (n.sum(-1) + prior)
    kept = (both / whole)[..., None]
    with np.errstate(invalid="ignore"):
        rates = np.where(n > 0, won / n, 0.0)
    rates = kept * rates + (1 - kept) * centre[..., None]
    against = np.where(n.sum(-1)[..., None] > 0, n[..., ::-1], 1.0)
    return mean, (rates * (1 - rates) * against).sum(-1) / whole


def sample(counts: np.ndarray, base: np.ndarray | float, prior: float, uniform: np.ndarray) -> np.ndarray:
    """One posterior sample (…) of the uplift, made from the random numbers `uniform` (…) in (0, 1)."""
    import numpy as np
    from scipy.special import ndtri

    mean, variance = moments(counts, base, prior)
    return np.clip(mean + np.sqrt(variance) * ndtri(uniform), -1, 1)


def estimate(counts: np.ndarray, base: np.ndarray, prior: float, level: float) -> Uplift:
    """The uplift of one item over its strata: `counts` (strata, 4), `base` (strata,)."""
    import numpy as np
    from scipy.special import ndtr, ndtri

    weights = shares(counts)
    means, variances = moments(counts, base, prior)
    mean, deviation = float((weights * means).sum()), float(np.sqrt((weights**2 * variances).sum()))
    reach = float(ndtri((1 + level) / 2)) * deviation
    served, served_won, held_out, held_out_won = (int(n) for n in counts.sum(0))
    return Uplift(
        mean, max(-1.0, mean - reach), min(1.0, mean + reach), float(ndtr(-mean / deviation)), exact_test(counts),
        served, served_won, held_out, held_out_won,
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
    for served, served_won, held_out, held_out_won in np.asarray(counts, dtype=float):
        won = served_won + held_out_won
        k = np.arange(max(0, won - held_out), min(served, won) + 1)
        logs = choose(served, k) + choose(held_out, won - k) - choose(served + held_out, won)
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
        prior: how many episodes the prior is worth.
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
        self.odds = np.array([odds for _, _, odds in self.names])
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
        """One posterior sample (items,) of each uplift from the random numbers `uniform` (rows,)."""
        return self._summed(self.weights * sample(self.counts, self.base, self.prior, uniform))

    def below(self) -> np.ndarray:
        """The posterior probability (items,) that each uplift is below 0."""
        import numpy as np
        from scipy.special import ndtr

        mean, variance = self.moments()
        return np.asarray(ndtr(-mean / np.sqrt(variance)))

    def harm(self) -> np.ndarray:
        """An upper bound (items,), in (0, 1], on the error of calling each item harmful, at any time: 1 / e-value."""
        return self._anytime(self.counts)

    def help(self) -> np.ndarray:
        """The same for calling each item helpful."""
        return self._anytime(mirrored(self.counts))

    def less_than(self, use: float) -> np.ndarray:
        """The same for saying that the uplift of each item is below `use` in [0, 1)."""
        return self._anytime(self.counts, use)

    def _anytime(self, counts: np.ndarray, use: float = 0.0) -> np.ndarray:
        import numpy as np

        stakes = log_stakes(counts, self.odds, use)
        summed = np.stack([self._summed(stake) for stake in stakes.T], axis=-1)
        return np.exp(-np.maximum(log_e_value(summed), 0.0))

    def estimate(self, index: int, level: float) -> Uplift:
        """Everything about the item at `index`."""
        rows = self.item == index
        return estimate(self.counts[rows], self.base[rows], self.prior, level)
