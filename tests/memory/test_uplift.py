"""The uplift of an item agrees with what can be worked out by hand or by brute force."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from memory.recalls import RecallEvidence
from memory.uplift import Strata, estimate, exact_test, moments, posteriors, sample, shares, suspects

COUNTS = np.array([20.0, 15, 10, 3])


def draws(counts: np.ndarray, base: np.ndarray, prior: float, n: int = 400_000) -> np.ndarray:
    """Samples of the weighted sum of the posteriors, drawn without any grid."""
    random = np.random.default_rng(0)
    a, b = posteriors(counts, base, prior)
    sides = random.beta(a, b, (n, *a.shape))
    return (shares(counts) * (sides[..., 0] - sides[..., 1])).sum(-1)


def test_the_prior_of_both_sides_lies_at_the_rate_of_the_item_itself() -> None:
    a, b = posteriors(COUNTS, 0.5, 10)
    centre = (15 + 3 + 10 * 0.5) / (20 + 10 + 10)
    assert a == pytest.approx([15 + 10 * centre, 3 + 10 * centre])
    assert b == pytest.approx([5 + 10 * (1 - centre), 7 + 10 * (1 - centre)])


def test_mean_and_variance_are_those_of_two_betas() -> None:
    mean, variance = moments(COUNTS, 0.5, 10)
    p, q = (15 + 5.75) / 30, (3 + 5.75) / 20
    assert mean == pytest.approx(p - q)
    assert variance == pytest.approx(p * (1 - p) / 31 + q * (1 - q) / 21)


def test_without_evidence_the_uplift_is_0_give_or_take_what_the_base_rate_allows() -> None:
    for base in (0.5, 0.02):
        found = estimate(np.zeros((1, 4)), np.array([base]), 10, 0.95)
        assert found.mean == 0
        assert found.below == pytest.approx(0.5, abs=1e-3)
        assert found.low == pytest.approx(-found.high, abs=1e-3)
        # The reach of the prior narrows with the base rate, as that of success itself does.
        assert found.high == pytest.approx(1.96 * (2 * base * (1 - base) / 11) ** 0.5, rel=0.2)
        assert found.p == 1


def test_unequal_sides_are_pulled_together_not_apart_where_games_are_hard() -> None:
    """The item is recalled where 1 in 5 is won; elsewhere in the environment 4 in 5 are."""
    mean, _ = moments(np.array([900.0, 180, 20, 4]), 0.8, 10)
    assert abs(mean) < 0.01


@pytest.mark.parametrize(
    ("counts", "base", "prior", "level"),
    [
        ([[20, 15, 10, 3]], [0.5], 10, 0.95),
        ([[20, 15, 10, 3], [4, 0, 7, 3], [200, 20, 3, 1]], [0.5, 0.1, 0.05], 2, 0.9),
        ([[50, 50, 6, 6]], [0.98], 10, 0.95),
        ([[3000, 1500, 3000, 1600]], [0.5], 10, 0.8),
    ],
)
def test_the_grid_agrees_with_brute_force(
    counts: list[list[float]], base: list[float], prior: float, level: float
) -> None:
    table, rates = np.array(counts, dtype=float), np.array(base)
    found, drawn = estimate(table, rates, prior, level), draws(table, rates, prior)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    unit = float(drawn.std())
    assert found.mean == pytest.approx(drawn.mean(), abs=0.01 * unit)
    assert found.low == pytest.approx(low, abs=0.06 * unit)
    assert found.high == pytest.approx(high, abs=0.06 * unit)
    # Rates that round to 1 on both sides are equal only to the computer.
    assert found.below == pytest.approx((drawn < 0).mean() + (drawn == 0).mean() / 2, abs=0.005)


def test_strata_weigh_by_their_episodes() -> None:
    counts = np.array([[10.0, 9, 10, 1], [30.0, 3, 30, 27]])
    one, other = (float(moments(row, 0.5, 4)[0]) for row in counts)
    assert estimate(counts, np.array([0.5, 0.5]), 4, 0.95).mean == pytest.approx(0.25 * one + 0.75 * other)
    assert shares(np.zeros((2, 4))).tolist() == [0.5, 0.5]


def test_the_test_of_one_stratum_is_fisher_s() -> None:
    """Of all tables with these margins, those no likelier than this one: 15 of 20 served, 3 of 10 withheld."""
    likely = {k: comb(20, k) * comb(10, 18 - k) / comb(30, 18) for k in range(8, 19)}
    expected = sum(p for p in likely.values() if p <= likely[15] * (1 + 1e-9))
    assert exact_test(COUNTS[None]) == pytest.approx(expected)
    assert expected == pytest.approx(0.0450, abs=5e-5)


def test_the_test_of_several_strata_is_that_of_their_sum() -> None:
    counts = np.array([[3.0, 2, 2, 0], [4.0, 4, 3, 1]])
    one = {k: comb(3, k) * comb(2, 2 - k) / comb(5, 2) for k in range(3)}
    other = {k: comb(4, k) * comb(3, 5 - k) / comb(7, 5) for k in range(2, 5)}
    total: dict[int, float] = {}
    for k, p in one.items():
        for j, q in other.items():
            total[k + j] = total.get(k + j, 0) + p * q
    expected = sum(p for p in total.values() if p <= total[6] * (1 + 1e-9))
    assert exact_test(counts) == pytest.approx(expected)


def test_where_everything_or_nothing_is_won_the_test_says_nothing() -> None:
    assert exact_test(np.array([[12.0, 12, 3, 3], [5.0, 0, 9, 0]])) == pytest.approx(1)


def test_samples_follow_the_posterior() -> None:
    random = np.random.default_rng(1)
    many = sample(np.tile(COUNTS, (20_000, 1)), 0.5, 10, random.random((20_000, 2)))
    mean, variance = moments(COUNTS, 0.5, 10)
    assert many.mean() == pytest.approx(float(mean), abs=0.005)
    assert many.var() == pytest.approx(float(variance), rel=0.05)


def test_the_quick_look_misses_nothing_that_is_credibly_harmful() -> None:
    random = np.random.default_rng(2)
    n = random.integers(5, 200, (300, 2))
    won = random.binomial(n, random.uniform(0.02, 0.98, (300, 2)))
    counts = np.stack([n[:, 0], won[:, 0], n[:, 1], won[:, 1]], axis=-1).astype(float)
    quick = suspects(*moments(counts, 0.3, 10), 0.95)
    below = np.array([estimate(row[None], np.array([0.3]), 10, 0.95).below for row in counts])
    assert quick[below >= 0.95].all()
    assert not quick[below < 0.5].any()


def test_strata_of_many_items_agree_with_each_item_alone() -> None:
    evidence = [
        RecallEvidence("b", "hard", 0.9, 20, 5, 4, 2),
        RecallEvidence("a", "easy", 0.9, 9, 8, 2, 1),
        RecallEvidence("b", "easy", 0.8, 7, 7, 3, 2),
    ]
    rates = {"easy": 0.9, "hard": 0.2}
    strata = Strata(["a", "b", "c"], evidence, rates, 10, "hard")
    mean, variance = strata.moments()
    for place, rows in enumerate(([1], [2, 0])):
        counts = np.array([evidence[row][3:] for row in rows], dtype=float)
        alone = estimate(counts, np.array([rates[evidence[row].env] for row in rows]), 10, 0.9)
        assert strata.estimate(place, 0.9) == alone
        assert mean[place] == pytest.approx(alone.mean)
    assert (mean[2], variance[2]) == (0, pytest.approx(2 * 0.2 * 0.8 / 11))
    assert strata.totals().tolist() == [[9, 8, 2, 1], [27, 12, 7, 4], [0, 0, 0, 0]]
    assert [name[0] for name in strata.names] == ["a", "b", "b", "c"]


def test_an_uplift_reads_as_one_line() -> None:
    assert str(estimate(COUNTS[None], np.array([0.5]), 10, 0.95)) == (
        "uplift +0.25 [-0.02, +0.51], P(<0) 0.03; served 20 (won 15), withheld 10 (won 3), p 0.045"
    )
