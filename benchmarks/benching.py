"""Single items that are served or held out at random and looked at again and again: how many are ever benched?"""

from __future__ import annotations

import machine  # noqa: F401  (from then on the packages come before the benchmarks)
import numpy as np
from scipy.special import ndtr

from memory.credit import CreditConfig, log_e_value, log_stakes, moments

LOOKED, EVERY = 600, 5
ODDS, RATES, EFFECTS = (0.9, 0.5), (0.1, 0.35, 0.6, 0.9), (0.0, -0.1, -0.2, -0.3)


def harmful(counts: np.ndarray, base: np.ndarray, odds: float, config: CreditConfig) -> np.ndarray:
    """Which items (…) of one stratum each, with counts (…, 4), `Credit.review` would bench."""
    mean, variance = moments(counts, base, config.prior)
    error = np.exp(-np.maximum(log_e_value(log_stakes(counts, np.array(odds))), 0))
    enough = (counts[..., 0] >= config.min_n) & (counts[..., 2] >= config.min_n)
    sure = ndtr(-mean / np.sqrt(variance)) >= config.bench_at
    return np.asarray(enough & sure & (error <= round(1 - config.bench_at, 12)))


def ever_benched(
    random: np.random.Generator, rate: float, effect: float, odds: float, runs: int, config: CreditConfig
) -> tuple[float, float]:
    """The share of items of this effect that are benched at some time: as the tool does it, and by the posterior alone.

    `rate` is the probability of success without the item, `odds` that of being served.
    """
    some, counts = np.arange(runs), np.zeros((runs, 4))
    base, by_rule, by_posterior = np.full(runs, rate), np.zeros(runs, bool), np.zeros(runs, bool)
    for number in range(LOOKED):
        side = 2 * (random.random(runs) >= odds)
        counts[some, side] += 1
        counts[some, side + 1] += random.random(runs) < rate + effect * (side == 0)
        if (number + 1) % EVERY == 0:
            mean, variance = moments(counts, base, config.prior)
            enough = (counts[:, 0] >= config.min_n) & (counts[:, 2] >= config.min_n)
            by_posterior |= enough & (ndtr(-mean / np.sqrt(variance)) >= config.bench_at)
            by_rule |= harmful(counts, base, odds, config)
    return float(by_rule.mean()), float(by_posterior.mean())


def single_items(runs: int, config: CreditConfig) -> tuple[list[str], float]:
    """The table of what is ever benched, and the greatest share of items without an effect."""
    random, worst = np.random.default_rng(0), 0.0
    lines = [
        "| served with probability | won without it | "
        + " | ".join(f"effect {effect:+.1f}" for effect in EFFECTS)
        + " | effect +0.0, by the posterior alone |",
        "|---|---|" + "---|" * (len(EFFECTS) + 1),
    ]
    for odds in ODDS:
        for rate in RATES:
            found = [
                ever_benched(random, rate, effect, odds, runs, config) if rate + effect >= 0 else None
                for effect in EFFECTS
            ]
            cells = ["–" if one is None else f"{one[0]:.3f}" for one in found]
            assert found[0] is not None
            worst = max(worst, found[0][0])
            lines.append(f"| {odds} | {rate} | {' | '.join(cells)} | {found[0][1]:.3f} |")
    return lines, worst
