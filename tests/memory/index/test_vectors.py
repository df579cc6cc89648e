"""Exact search gives what sorting all would give, for less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.index.vectors import GROUPS, _best


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 3000),
    count=st.integers(1, 60),
    values=st.sampled_from([3, 50, 10**6]),
)
def test_the_best_are_those_of_a_sort_and_of_equals_the_lesser_rows(
    seed: int, size: int, count: int, values: int
) -> None:
    chance = np.random.default_rng(seed)
    cosines = (chance.integers(0, values, size) / values).astype(np.float32)
    rows = chance.permutation(size)
    order = np.lexsort((rows, -cosines))[:count]
    found, near = _best(rows, cosines, count)
    assert found.tolist() == rows[order].tolist() and near.tolist() == cosines[order].tolist()


@pytest.mark.parametrize("size", [GROUPS * 40, GROUPS * 40 + GROUPS - 1])
def test_the_best_may_stand_anywhere_also_behind_the_last_whole_group(size: int) -> None:
    rows = np.arange(size)
    for place in (0, 39, 40, size - 1):
        cosines = np.zeros(size, np.float32)
        cosines[place] = 1
        assert _best(rows, cosines, 5)[0].tolist() == [place, *[row for row in range(6) if row != place][:4]]
