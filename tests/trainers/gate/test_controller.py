"""What steers a series of rounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from memory.records import Episode
from trainers.errors import CannotSelect
from trainers.gate.controller import AlphaSchedule, EarlyStop
from trainers.gate.experimental import Balancer, balance, balance_score, subset

MakeEpisode = Callable[..., Episode]


@pytest.mark.parametrize(
    ("selected", "correct", "score"),
    # n* = 8: 4 of 4 -> 0.5·1; 8 of 16 -> 1·0.5; 2 of 2 -> 0.25·1; 16 of 64 -> 1·0.25; 6 of 8 -> 0.75·0.75.
    [(4, 4, 0.5), (16, 8, 0.5), (2, 2, 0.25), (64, 16, 0.25), (8, 6, 0.5625), (10, 10, 1.0), (5, 0, 0.0), (0, 0, 0.0)],
)
def test_the_balance_score_is_the_one_worked_out_by_hand(selected: int, correct: int, score: float) -> None:
    assert balance_score(selected, correct) == pytest.approx(score)


@pytest.mark.parametrize(("selected", "correct", "target"), [(1, 2, 8), (1, -1, 8), (1, 1, 0)])
def test_counts_that_cannot_be_are_refused(selected: int, correct: int, target: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        balance_score(selected, correct, target)


@pytest.fixture
def played(make_episode: MakeEpisode) -> list[Episode]:
    """Task 0: two ways to win, one of them twice, and one way to lose with half the score. Task 1: lost."""
    return [
        make_episode("a", actions=("x",)),
        make_episode("a again", actions=("x",)),
        make_episode("b", actions=("y",)),
        make_episode("c", actions=("z",), status="lost", score=0.5),
        make_episode("d", seed=1, start="Other.", status="lost", score=0.0),
        make_episode("e", seed=1, start="Other.", status="errored", score=0.0),
    ]


def test_the_balance_of_a_round_counts_different_solutions_and_tasks_without_any(played: list[Episode]) -> None:
    # Threshold 1: task 0 has 2 of 2, (2/4)·1 = 0.5; task 1 nothing, 0. Mean 0.25.
    assert balance(played, 1.0, target=4) == pytest.approx(0.25)
    # Threshold 0.5: task 0 has 2 of 3, (2/4)·(2/3) = 1/3; task 1 nothing. Mean 1/6.
    assert balance(played, 0.5, target=4) == pytest.approx(1 / 6)
    assert balance([], 0.5) == 0.0


def test_the_best_of_the_grid_is_picked_and_of_equals_the_safer(
    make_episode: MakeEpisode, played: list[Episode]
) -> None:
    more = [*played, make_episode("f", actions=("w",)), make_episode("g", actions=("v",))]
    grid = Balancer(temperatures=[0.5, 1.0], thresholds=[0.0, 0.6, 1.0], target=4)
    picked = grid.pick(1, {0.5: played, 1.0: more}).picks[1]
    # At 1.0 four of four are won: (4/4)·1 and 0; thresholds 0.6 and 1.0 are equal, the higher is taken.
    assert (picked.temperature, picked.threshold) == (1.0, 1.0) and picked.score == pytest.approx(0.5)
    same = grid.pick(1, {0.5: more, 1.0: more}).picks[1]
    assert (same.temperature, same.threshold) == (0.5, 1.0)


def test_a_round_that_is_told_twice_keeps_its_pick_and_the_state_survives_as_json(played: list[Episode]) -> None:
    fresh = Balancer(temperatures=[0.7])
    once = fresh.pick(1, {0.7: played})
    assert fresh.picks == {}
    stored = Balancer.model_validate_json(once.model_dump_json())
    assert stored == once
    assert stored.pick(1, {0.7: []}) == once
    assert set(stored.pick(2, {0.7: played}).picks) == {1, 2}


def test_a_temperature_that_was_not_played_cannot_be_compared(played: list[Episode]) -> None:
    with pytest.raises(CannotSelect, match=r"temperature 0\.9"):
        Balancer(temperatures=[0.7, 0.9]).pick(1, {0.7: played})


def test_the_subset_of_tasks_depends_on_the_seed_only() -> None:
    tasks = [f"toy/doors:train:{n}" for n in range(30)]
    few = subset(tasks, 5, 0)
    assert len(few) == 5 and few == subset(reversed(tasks), 5, 0) != subset(tasks, 5, 1)
    assert subset(tasks, 99, 0) == sorted(tasks)


def test_alpha_rises_by_iteration_and_stays_at_its_last_value() -> None:
    schedule = AlphaSchedule()
    assert [schedule.at(iteration) for iteration in (1, 2, 3, 4, 50)] == [0.5, 0.7, 1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="count from 1"):
        schedule.at(0)


def told(scores: list[float | None], **settings: float) -> EarlyStop:
    state = EarlyStop.model_validate(settings)
    for number, score in enumerate(scores, 1):
        state = state.after(number, score)
    return state


@pytest.mark.parametrize(
    ("scores", "best", "stop"),
    [
        ([], None, False),
        ([0.3], 1, False),
        ([0.3, 0.5, 0.4], 2, False),
        ([0.3, 0.5, 0.4, 0.5], 2, True),  # to equal is not to gain
        ([0.3, 0.5, 0.4, 0.6], 4, False),
        ([0.0, 0.0], None, True),
        ([-0.5, -0.4], None, True),  # less bad is no gain on what there was before
        ([-0.1, 0.1, 0.0], 2, False),
        ([0.5, None, math.nan, None], 1, False),  # nothing measured counts neither way
        ([None, 0.2], 2, False),
    ],
)
def test_the_rounds_end_when_the_held_out_score_no_longer_rises(
    scores: list[float | None], best: int | None, stop: bool
) -> None:
    state = told(scores)
    assert (state.best, state.stop) == (best, stop)


def test_a_gain_can_be_asked_to_be_worth_something() -> None:
    assert told([0.50, 0.51, 0.52], min_gain=0.05).stop
    assert told([0.50, 0.51, 0.56], min_gain=0.05).best == 3
    assert told([0.5, 0.4], patience=1).stop


def test_early_stopping_forgets_nothing_as_json_and_minds_no_repetition() -> None:
    state = told([0.3, 0.5, None, 0.4])
    assert EarlyStop.model_validate_json(state.model_dump_json()) == state
    assert state.after(4, 0.4) == state
