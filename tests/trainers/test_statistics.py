"""Intervals and tests agree with values computed by hand."""

from __future__ import annotations

import pytest

from trainers.statistics import difference_interval, mcnemar, paired, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(25, 30, 0.664, 0.927), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (1, 2, 0.095, 0.905), (0, 0, 0.0, 1.0)],
)
def test_wilson_gives_the_known_interval(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-4)


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    low, high = wilson(5, 10, 0.99)
    assert low < wilson(5, 10)[0] < wilson(5, 10)[1] < high


@pytest.mark.parametrize(("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_counts_that_cannot_be(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="must lie"):
        wilson(successes, n, confidence)


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (0, 8, 2 / 256), (3, 1, 2 * 5 / 16), (2, 2, 1.0), (16, 0, 2 / 65536)],
)
def test_mcnemar_counts_the_tail_of_the_binomial(b: int, c: int, p: float) -> None:
    assert mcnemar(b, c) == pytest.approx(p)
    assert mcnemar(c, b) == mcnemar(b, c)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


def test_pairs_are_counted_over_shared_keys_only() -> None:
    a = {1: True, 2: True, 3: False, 4: False, 5: True}
    b = {1: True, 2: False, 3: True, 4: False, 6: True}
    result = paired(a, b)
    assert (result.n, result.both, result.only_a, result.only_b, result.neither) == (4, 1, 1, 1, 1)
    assert result.difference == 0 and result.p == 1


def test_no_pairs_say_nothing() -> None:
    result = paired({}, {})
    assert (result.n, result.difference, result.p, result.interval) == (0, 0.0, 1.0, (-1.0, 1.0))


def test_the_interval_of_a_difference_joins_both_wilson_intervals_where_pairs_are_unrelated() -> None:
    # 5 of 10 against 5 of 10, every combination equally often but one: phi is 0 after the continuity correction.
    low, high = difference_interval(3, 2, 2, 3)
    reach = 0.5 - wilson(5, 10)[0]
    assert (low, high) == pytest.approx((-(2**0.5) * reach, 2**0.5 * reach))


def test_related_pairs_narrow_the_interval_of_a_difference() -> None:
    together = difference_interval(20, 5, 0, 20)
    apart = difference_interval(0, 25, 20, 0)
    assert together[1] - together[0] < apart[1] - apart[0]
    assert together[0] < 5 / 45 < together[1]


def test_the_interval_of_a_difference_stays_within_bounds() -> None:
    low, high = difference_interval(0, 30, 0, 0)
    assert 0.8 < low <= 1 and high == pytest.approx(1.0)
