"""The simulated world of `benchmarks/credit.py`, small: credit finds what helps, in SQLite as in arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from memory import CreditConfig

QUICK = CreditConfig(hold_out=0.25, max_cost=0.1)


@pytest.fixture(scope="module")
def bench(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("credit")


def test_the_worlds_are_as_described(load: Callable[[str], ModuleType]) -> None:
    bench = load("credit_world")
    world = bench.World.made(0, 50)
    assert [(world.effects < 0).sum(), (world.effects == 0).sum(), (world.effects > 0).sum()] == [4, 20, 16]
    assert all(len(set(query)) == bench.FOUND for query in world.queries.tolist())
    assert bench.probability(np.array([0.1, -0.2, 0.0])) == pytest.approx(bench.BASE - 0.1)
    again = bench.World.made(0, 50)
    assert np.array_equal(world.luck, again.luck)


@pytest.mark.parametrize("credit", [True, False])
def test_memory_and_sqlite_decide_every_episode_as_the_arrays_do(
    bench: ModuleType, tmp_path: Path, credit: bool
) -> None:
    worlds = [bench.World.made(seed, 450) for seed in (5, 6)]
    arrays = list(bench.simulate(worlds, QUICK, credit=credit))
    stored = bench.play(worlds[1], tmp_path, QUICK, credit=credit)
    assert bench.alike(stored, arrays[1])
    assert not bench.alike(stored, arrays[0])
    assert bool(stored.held_out.any()) is credit


def test_an_item_that_is_benched_is_chosen_no_more(bench: ModuleType, tmp_path: Path) -> None:
    """Every item harms, so that some are benched at the first reviews, in SQLite as in arrays."""
    world = bench.World.made(1, 620)
    world.effects[:] = -0.3
    config = CreditConfig(hold_out=0.5, max_cost=1.0, bench_at=0.8, min_n=3)
    (arrays,) = bench.simulate([world], config)
    assert arrays.benched.any()
    assert bench.alike(bench.play(world, tmp_path, config), arrays)
    assert not np.isin(arrays.chosen[-20:], np.flatnonzero(arrays.benched)).any()


def test_credit_finds_what_helps_covers_the_truth_and_wins_more(bench: ModuleType) -> None:
    worlds = [bench.World.made(seed, 3000) for seed in range(8)]
    on, off = (list(bench.simulate(worlds, QUICK, credit=credit)) for credit in (True, False))
    result = bench.findings(worlds, on, off, QUICK)
    figures = result.figures
    # After 3000 episodes in 8 worlds; the bounds of the benchmark are for more of both.
    assert min(figures["AUC, helpful"], figures["AUC, harmful"]) > 0.85
    assert 0.93 <= figures["coverage"] <= 0.99
    assert (figures["better"], result.holds["success"], result.holds["cost"]) == (1, True, True)
    assert len(result.lines) > 15


def test_the_ranking_measure_counts_pairs(bench: ModuleType) -> None:
    scores, positive = np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False])
    assert bench.auc(scores, positive) == (1 + 1 + 0.5 + 1) / 4
