"""A stake on harm is a fair game where there is none, however the lots fall and however often one looks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from memory.credit.eprocess import log_e_value, log_stakes, mirrored


@pytest.mark.parametrize("odds", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_no_stake_grows_on_average_where_an_item_does_no_harm(odds: float, effect: float) -> None:
    """Of one episode, all that can happen; its own chance is whatever it is."""
    for chance in (0.0, 0.1, 0.5, 0.8):
        mean: np.ndarray | float = 0.0
        for served, won in product((0, 1), (0, 1)):
            rate = chance + effect * served
            p = (odds if served else 1 - odds) * (rate if won else 1 - rate)
            counts = np.array([served, served * won, 1 - served, (1 - served) * won], float)
            mean = mean + p * np.exp(log_stakes(counts, np.array(odds)))
        assert np.all(mean <= 1 + 1e-12)
        assert effect or mean == pytest.approx(np.ones_like(mean))


def test_stakes_multiply_over_episodes_and_strata() -> None:
    one, two = np.array([30.0, 4, 8, 6]), np.array([3.0, 1, 2, 2])
    together = log_stakes(one + two, np.array(0.9))
    assert together == pytest.approx(log_stakes(one, np.array(0.9)) + log_stakes(two, np.array(0.9)))
    both = log_stakes(np.stack([one, two]), np.array([0.9, 0.5])).sum(0)
    assert both == pytest.approx(log_stakes(one, np.array(0.9)) + log_stakes(two, np.array(0.5)))
    assert log_e_value(log_stakes(np.zeros(4), np.array(0.0))) == pytest.approx(0)


def test_what_is_harm_is_help_where_won_and_lost_are_exchanged() -> None:
    counts = np.array([[90.0, 20, 10, 8], [5.0, 5, 4, 0]])
    assert mirrored(counts).tolist() == [[90, 70, 10, 2], [5, 0, 4, 4]]
    assert mirrored(mirrored(counts)).tolist() == counts.tolist()
    odds = np.array([0.9, 0.5])
    harm, help = log_e_value(log_stakes(counts, odds)), log_e_value(log_stakes(mirrored(counts), odds))
    assert harm[0] > 3 > 0 > help[0] and help[1] > 0 > harm[1]
