from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from agentlab.protocols.measured import against, mean_of


def test_a_mean_of_games_counts_each_group_alike_and_its_interval_holds_it() -> None:
    found = mean_of([[1.0] * 90 + [0.0] * 10, [0.5, 0.5, 1.0, 0.0]])
    assert found.value == pytest.approx((0.9 + 0.5) / 2)
    assert found.low < found.value < found.high and found.games == 104


def test_the_interval_of_one_group_is_near_that_of_a_rate() -> None:
    found = mean_of([[1.0] * 80 + [0.0] * 20])
    assert found.low == pytest.approx(0.72, abs=0.02) and found.high == pytest.approx(0.88, abs=0.02)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_games_that_all_come_to_the_same_still_have_an_interval(score: float) -> None:
    found = mean_of([[score] * 20, [score] * 20])
    assert found.value == score
    assert found.high - found.low > 0.05


def test_few_pairs_are_tested_exactly() -> None:
    found = against({"a": [1, 1, 1, 1, 1, 0]}, {"a": [0, 0, 0, 0, 0, 0]})
    assert found.difference == pytest.approx(5 / 6) and found.games == 6
    assert found.p == pytest.approx(2 / 2**5)


def test_many_pairs_have_the_p_value_that_scipy_finds() -> None:
    random = np.random.default_rng(3)
    ours, theirs = random.random(60) + 0.1, random.random(60)

    def mean(x: Sequence[float], y: Sequence[float]) -> float:
        return float(np.mean(x) - np.mean(y))

    known = stats.permutation_test(
        (ours, theirs), mean, permutation_type="samples", n_resamples=20_000, vectorized=False, rng=1
    )
    assert against({"a": ours.tolist()}, {"a": theirs.tolist()}).p == pytest.approx(known.pvalue, abs=0.015)


def test_a_p_value_is_never_zero_and_no_difference_says_nothing() -> None:
    assert 0 < against({"a": [1.0] * 200}, {"a": [0.0] * 200}).p < 1e-3
    assert against({"a": [1.0, 0.0]}, {"a": [1.0, 0.0]}).p == 1.0


def test_each_game_weighs_alike_however_many_were_played_of_it() -> None:
    ours = {"many": [0.0] * 100, "few": [1.0] * 10}
    theirs = {"many": [0.0] * 100, "few": [0.0] * 10}
    assert against(ours, theirs).difference == pytest.approx(0.5)
