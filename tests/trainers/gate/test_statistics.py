"""Intervals and tests agree with values computed by hand."""

from __future__ import annotations

import pytest

from trainers.gate.statistics import bootstrap_ratio, difference_interval, holm, mcnemar, p_text, paired, wilson


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


def test_a_loss_is_credible_below_alpha_and_only_downwards() -> None:
    won, lost = dict.fromkeys(range(6), True), dict.fromkeys(range(6), False)
    worse = paired(lost, won)
    assert worse.p == 2 / 64
    assert worse.lost(0.05) and not worse.lost(2 / 64)
    assert not worse.lost(0.05, p=0.06) and worse.lost(0.01, p=0.009), "a corrected p-value counts instead"
    assert not paired(won, lost).lost(0.05)


@pytest.mark.parametrize(("p", "shown"), [(1.0, "1.0000"), (0.04123, "0.0412"), (1e-4, "0.0001"), (9e-5, "< 0.0001")])
def test_a_p_value_is_shown_to_four_places(p: float, shown: str) -> None:
    assert p_text(p) == shown
    assert f"p {p_text(p, '= ')}" == (f"p {shown}" if shown.startswith("<") else f"p = {shown}")


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


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_a_ratio_of_paired_means_has_its_value_and_an_interval_around_it() -> None:
    tasks = [(1.0, 1.0)] * 30 + [(0.0, 1.0)] * 10 + [(0.0, 0.0)] * 20
    found = bootstrap_ratio([tasks], seed=1)
    assert found.value == pytest.approx(0.75)
    assert found.low is not None and found.high is not None and 0.55 < found.low < 0.75 < found.high < 0.92
    assert found.below == pytest.approx(40 / 60 - 1.96 * (2 / 9 / 60) ** 0.5, abs=0.03)
    assert bootstrap_ratio([tasks], seed=1) == found != bootstrap_ratio([tasks], seed=2)


def test_pairs_are_drawn_together_and_within_their_stratum() -> None:
    same = bootstrap_ratio([[(1.0, 1.0)] * 5 + [(0.0, 0.0)] * 5])
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0), "numerator and denominator move as one"
    fixed = bootstrap_ratio([[(1.0, 1.0)] * 3, [(0.0, 1.0)] * 1, []])
    assert (fixed.value, fixed.low, fixed.high) == (0.75, 0.75, 0.75), "every stratum keeps its size"


def test_a_ratio_whose_denominator_may_be_zero_means_nothing() -> None:
    found = bootstrap_ratio([[(1.0, 1.0)] * 3 + [(1.0, -1.0)] * 2 + [(0.0, 0.0)] * 20])
    assert (found.value, found.low, found.high) == (None, None, None) and found.below <= 0 < found.above
    with pytest.raises(ValueError, match="needs tasks"):
        bootstrap_ratio([[]])
