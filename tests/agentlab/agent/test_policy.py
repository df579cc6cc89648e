from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from agentlab.agent.policy import Policy

SCORES = [-1.0, -2.0, -3.0]
NOTHING = [0.0, 0.0, 0.0]


def share(policy: Policy, bonus: list[float], trial: int, which: int, scores: list[float] = SCORES) -> float:
    """How often `which` is chosen in many draws."""
    counts = Counter(policy.choose(scores, bonus, trial, random.Random(seed)) for seed in range(4000))
    return counts[which] / 4000


def test_the_first_trial_is_greedy_by_default() -> None:
    assert {Policy().choose(SCORES, NOTHING, 0, random.Random(seed)) for seed in range(20)} == {0}


def test_ties_go_to_the_first() -> None:
    assert Policy().choose([-1.0, -1.0], [0.0, 0.0], 0, random.Random(0)) == 0


def test_advice_moves_the_greedy_choice() -> None:
    assert Policy().choose(SCORES, [-8.0, 0.0, 3.0], 0, random.Random(0)) == 2


def test_later_trials_sample_in_proportion() -> None:
    weights = [math.exp(score) for score in SCORES]
    for which in range(3):
        assert share(Policy(), NOTHING, 1, which) == pytest.approx(weights[which] / sum(weights), abs=0.03)


def test_a_hotter_trial_is_more_even_and_advice_is_not_softened_by_it() -> None:
    policy = Policy(retry_temperature=1.0, growth=0.5)
    assert [policy.temperature_at(trial) for trial in range(4)] == [0.0, 1.0, 1.5, 2.0]
    assert [policy.scale_at(trial) for trial in range(3)] == [1.0, 1.5, 2.0]
    hot = Policy(temperature=1e6)
    assert share(hot, NOTHING, 0, 2) == pytest.approx(1 / 3, abs=0.03)
    assert share(hot, [0.0, 0.0, math.log(2)], 0, 2) == pytest.approx(1 / 2, abs=0.03)


@pytest.mark.parametrize("trial", range(4))
def test_without_growth_every_trial_plays_the_temperature_that_was_set(trial: int) -> None:
    policy = Policy(temperature=0.7, retry_temperature=0.7, growth=0.0)
    assert policy.temperature_at(trial) == 0.7
    assert policy.scale_at(trial) == 1.0


def test_very_small_probabilities_do_not_overflow() -> None:
    assert Policy(temperature=1.0).choose([-5000.0, -9000.0], [0.0, 0.0], 0, random.Random(0)) == 0


def test_the_same_random_numbers_give_the_same_choice() -> None:
    policy = Policy(temperature=1.0)
    first = [policy.choose(SCORES, NOTHING, 0, random.Random(seed)) for seed in range(50)]
    assert first == [policy.choose(SCORES, NOTHING, 0, random.Random(seed)) for seed in range(50)]
