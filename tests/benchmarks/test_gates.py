"""The simulated series of `benchmarks/gates.py`, small: what is not better is hardly promoted, what is better often."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from trainers.gate.gate import GateConfig


@pytest.fixture(scope="module")
def bench(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("gates")


def test_a_null_candidate_wins_as_often_as_the_incumbent_and_a_better_one_more_often(bench: ModuleType) -> None:
    random = np.random.default_rng(0)
    games = bench.Games.drawn(random, 4000)
    null, better = games.played(random, 0.0), games.played(random, 0.4)
    assert abs(null.mean() - games.incumbent.mean()) < 0.03
    assert better.mean() - games.incumbent.mean() > 0.1
    assert 0.6 < (null == games.incumbent).mean() < 0.9, "half of the games are played alike, and others by chance"


@pytest.mark.parametrize("sequential", [False, True])
def test_series_on_new_games_with_one_error_promote_less_of_what_is_not_better(
    bench: ModuleType, sequential: bool
) -> None:
    config = GateConfig(sequential=sequential, min_pairs=8)
    shared, each = (bench.false_promotions(way, 60, 5, 8, config) for way in (bench.SHARED, bench.FRESH))
    assert shared <= each and shared <= 0.05 * 60
    first, _ = bench.power(0.6, 0, 40, 10, config)
    later, played = bench.power(0.6, 3, 40, 10, config)
    assert first > later and played <= 1


def test_a_promotion_begins_a_new_count(bench: ModuleType) -> None:
    config = GateConfig(sequential=False, min_pairs=8)
    found = list(bench.series(np.random.default_rng(3), [0.0, 1.0, 0.0, 0.0], 20, config, bench.SHARED))
    promoted = [result.promote for result in found]
    assert promoted[:2] == [False, True]
    assert [result.challenge for result in found][:3] == [1, 2, 1]
