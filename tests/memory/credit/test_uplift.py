"""The uplift of an item agrees with what can be worked out by hand."""

from __future__ import annotations

from math import comb
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memory.credit.uplift import Strata, estimate, exact_test, moments, sample, shares
from memory.store.recalls import RecallEvidence

COUNTS = np.array([20.0, 15, 10, 3])
SIDE = st.integers(0, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
BASE = st.floats(0.01, 0.99)
PRIOR = st.floats(0.1, 100)


def test_both_sides_are_shrunk_by_one_share_to_the_rate_of_the_item_itself() -> None:
    """20 and 10 episodes are worth 1 / (1/20 + 1/10) = 6.67 together; a prior worth 10 leaves 0.4 of the difference."""
    mean, variance = moments(COUNTS, 0.5, 10)
    assert mean == pytest.approx(0.4 * (15 / 20 - 3 / 10))
    centre = (15 + 3 + 10 * 0.5) / (20 + 10 + 10)
    p, q = 0.4 * 0.75 + 0.6 * centre, 0.4 * 0.3 + 0.6 * centre
    assert variance == pytest.approx(0.4 * (p * (1 - p) / 20 + q * (1 - q) / 10))


@settings(deadline=None)
@given(served=SIDE, held_out=SIDE, base=BASE, prior=PRIOR)
def test_an_uplift_lies_between_0_and_the_difference_that_was_seen(
    served: tuple[int, int], held_out: tuple[int, int], base: float, prior: float
) -> None:
    assume(served[0] and held_out[0])
    seen = served[1] / served[0] - held_out[1] / held_out[0]
    found = estimate(np.array([[*served, *held_out]], float), np.array([base]), prior, 0.95)
    assert min(0.0, seen) - 1e-12 <= found.mean <= max(0.0, seen) + 1e-12
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert found.below <= 0.5 if seen > 0 else found.below >= 0.5 - 1e-9


@settings(deadline=None)
@given(side=SIDE, base=BASE, prior=PRIOR)
def test_a_side_without_episodes_says_nothing(side: tuple[int, int], base: float, prior: float) -> None:
    for counts in ((*side, 0, 0), (0, 0, *side)):
        found = estimate(np.array([counts], float), np.array([base]), prior, 0.95)
        assert (found.mean, found.below) == (0, 0.5)
        centre = (side[1] + prior * base) / (side[0] + prior)
        assert found.high == pytest.approx(
            min(1.0, NormalDist().inv_cdf(0.975) * (centre * (1 - centre) / prior) ** 0.5)
        )


@pytest.mark.parametrize(
    ("counts", "base"),
    [
        ([9, 9, 1, 1], 0.1),
        ([90, 0, 10, 0], 0.9),
        ([990, 0, 10, 0], 0.5),
        # The item is recalled where 1 in 5 is won; elsewhere in the environment 4 in 5 are.
        ([900, 180, 20, 4], 0.8),
    ],
)
def test_a_prior_makes_no_uplift_where_none_was_seen(counts: list[float], base: float) -> None:
    found = estimate(np.array([counts], float), np.array([base]), 10, 0.95)
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.below == pytest.approx(0.5)


def test_without_evidence_the_uplift_is_0_give_or_take_what_the_base_rate_allows() -> None:
    for base in (0.5, 0.02):
        found = estimate(np.zeros((1, 4)), np.array([base]), 10, 0.95)
        assert (found.mean, found.below, found.p) == (0, 0.5, 1)
        # The reach of the prior narrows with the base rate, as that of success itself does.
        assert found.high == -found.low == pytest.approx(1.96 * (base * (1 - base) / 10) ** 0.5, rel=1e-3)


def test_an_interval_holds_the_effect_as_often_as_it_says() -> None:
    """Over effects such as the prior expects, at several rates and sizes of the two sides."""
    random, held = np.random.default_rng(3), list[bool]()
    for rate, n, m in ((0.5, 40, 10), (0.3, 300, 30), (0.8, 60, 60), (0.2, 90, 10)):
        for _ in range(250):
            effect = random.normal(0, (rate * (1 - rate) / 10) ** 0.5)
            sides = np.clip([rate + effect * m / (n + m), rate - effect * n / (n + m)], 0, 1)
            effect, won = sides[0] - sides[1], random.binomial([n, m], sides)
            counts = np.array([[n, won[0], m, won[1]]], float)
            found = estimate(counts, np.array([rate]), 10, 0.95)
            held.append(found.low <= effect <= found.high)
    assert 0.93 <= sum(held) / len(held) <= 0.98


def test_strata_weigh_by_their_episodes() -> None:
    counts = np.array([[10.0, 9, 10, 1], [30.0, 3, 30, 27]])
    one, other = (float(moments(row, 0.5, 4)[0]) for row in counts)
    assert estimate(counts, np.array([0.5, 0.5]), 4, 0.95).mean == pytest.approx(0.25 * one + 0.75 * other)
    assert shares(np.zeros((2, 4))).tolist() == [0.5, 0.5]


def test_the_test_of_one_stratum_is_fisher_s() -> None:
    """Of all tables with these margins, those no likelier than this one: 15 of 20 served, 3 of 10 held out."""
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
    many = sample(np.tile(COUNTS, (20_000, 1)), 0.5, 10, random.random(20_000))
    mean, variance = moments(COUNTS, 0.5, 10)
    assert many.mean() == pytest.approx(float(mean), abs=0.005)
    assert many.var() == pytest.approx(float(variance), rel=0.05)
    assert np.abs(sample(np.zeros((1000, 4)), 0.5, 0.1, random.random(1000))).max() == 1, "no uplift is beyond 1"


def test_harm_is_sure_where_much_was_lost_and_never_where_nothing_was_drawn() -> None:
    evidence = [
        RecallEvidence("harms", "e", 0.9, 450, 90, 50, 35),
        RecallEvidence("helps", "e", 0.9, 450, 360, 50, 15),
        RecallEvidence("idle", "e", 0.9, 450, 225, 50, 25),
    ]
    strata = Strata(["harms", "helps", "idle", "new"], evidence, {"e": 0.5}, 10)
    harm, help = strata.harm(), strata.help()
    assert harm[0] < 1e-3 and help[1] < 1e-3
    assert [*harm[1:], help[0], *help[2:]] == [1] * 6, "an error is at most 1"
    assert strata.below()[[0, 1]] == pytest.approx([1, 0], abs=1e-4) and strata.below()[[2, 3]].tolist() == [0.5, 0.5]


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
    assert (mean[2], variance[2]) == (0, pytest.approx(0.2 * 0.8 / 10))
    assert strata.totals().tolist() == [[9, 8, 2, 1], [27, 12, 7, 4], [0, 0, 0, 0]]
    assert [name[0] for name in strata.names] == ["a", "b", "b", "c"]


def test_an_uplift_reads_as_one_line() -> None:
    assert str(estimate(COUNTS[None], np.array([0.5]), 10, 0.95)) == (
        "+0.18 [-0.06, +0.42], harmful with probability 0.07; won 15 of 20 served, 3 of 10 held out; p (exact) 0.045"
    )
