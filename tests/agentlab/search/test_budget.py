from __future__ import annotations

import pytest
from pydantic import ValidationError

from agentlab.errors import OutOfBudget
from agentlab.trajectories.budget import Budget, Cost, Meter


def test_steps_are_counted_up_to_the_budget_and_not_beyond() -> None:
    meter = Meter(Budget(steps=2))
    meter.reset()
    meter.step()
    meter.step()
    with pytest.raises(OutOfBudget, match="budget of 2 steps"):
        meter.step()
    with pytest.raises(OutOfBudget):
        meter.reset()  # no step could follow
    assert meter.cost == Cost(steps=2, resets=1)


def test_a_scoring_that_would_read_too_much_is_not_made() -> None:
    meter = Meter(Budget(tokens=100, calls=3))
    meter.call(60)
    with pytest.raises(OutOfBudget, match="100 tokens"):
        meter.call(41)
    meter.call(40)
    meter.call(0)
    with pytest.raises(OutOfBudget, match="3 calls"):
        meter.call(0)
    assert (meter.cost.calls, meter.cost.tokens) == (3, 100)


def test_costs_add_up() -> None:
    one, other = Cost(steps=5, replayed=2, resets=1, calls=3, tokens=70), Cost(steps=1, tokens=2)
    assert one + other == Cost(steps=6, replayed=2, resets=1, calls=3, tokens=72)


def test_a_budget_always_bounds_the_steps() -> None:
    assert Budget().steps == 400
    with pytest.raises(ValidationError):
        Budget(steps=None)  # type: ignore[arg-type]
