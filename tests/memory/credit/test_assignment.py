"""Lots are drawn from names alone, at set odds, and at a bounded cost."""

from __future__ import annotations

import pytest

from memory.credit.assignment import Assignment, assign, uniforms, uniforms_of

EPISODES = [f"ep-{number}" for number in range(4000)]


def test_the_same_names_give_the_same_numbers_and_others_do_not() -> None:
    assert uniforms("a", "b") == uniforms("a", "b")
    assert len({uniforms(*names) for names in [("a", "b"), ("ab", ""), ("b", "a"), ("a", "b", "")]}) == 4
    numbers = [number for episode in EPISODES for number in uniforms("lot", episode)]
    assert all(0 < number < 1 for number in numbers)
    assert sum(numbers) / len(numbers) == pytest.approx(0.5, abs=0.01)


def test_many_names_draw_at_once_what_each_draws_alone() -> None:
    names = [("rf-1", "twx/coin", 0.9), ("rf-2", "", 0.0), ("rf-2", "twx/coin", 0.0)]
    assert uniforms_of(names, "use", 7).tolist() == [list(uniforms("use", 7, *name)) for name in names]
    assert uniforms_of([], "use", 7).shape == (0, 2)


def test_an_unknown_item_is_held_out_as_often_as_was_set() -> None:
    draws = [assign(episode, ["rf"], [0.0], 0.1, 0.02)[0] for episode in EPISODES]
    assert sum(draw.held_out for draw in draws) / len(draws) == pytest.approx(0.1, abs=0.015)
    assert {draw.propensity for draw in draws} == {0.9}


def test_useful_items_stay_out_of_the_experiment_as_often_as_the_bound_asks() -> None:
    """Three items of 0.2, held out at 0.1, would cost 0.06 an episode; 0.02 is allowed."""
    draws = [draw for episode in EPISODES for draw in assign(episode, ["a", "b", "c"], [0.2] * 3, 0.1, 0.02)]
    admitted = [draw for draw in draws if draw.propensity < 1]
    assert len(admitted) / len(draws) == pytest.approx(1 / 3, abs=0.02)
    assert not any(draw.held_out for draw in draws if draw.propensity == 1)
    assert sum(draw.held_out for draw in admitted) / len(admitted) == pytest.approx(0.1, abs=0.015)
    assert 0.2 * sum(draw.held_out for draw in draws) / len(EPISODES) == pytest.approx(0.02, abs=0.003)


def test_items_that_cost_nothing_are_held_out_even_where_the_bound_is_0() -> None:
    draws = [assign(episode, ["good", "bad"], [0.3, -0.3], 0.5, 0.0) for episode in EPISODES[:200]]
    assert {good for good, _ in draws} == {Assignment("good", False, 1.0)}
    assert {bad.propensity for _, bad in draws} == {0.5}


def test_an_item_draws_alike_whoever_stands_beside_it() -> None:
    for episode in EPISODES[:200]:
        alone, beside = assign(episode, ["a"], [0.0], 0.3, 1.0), assign(episode, ["b", "a"], [0.0, 0.0], 0.3, 1.0)
        assert alone[0] == beside[1]
