from __future__ import annotations

import pytest

from trainers.objectives.advantages import advantages, discounted, group_relative, improvement, step_relative


def test_an_episode_is_compared_with_its_group() -> None:
    # mean 1/4, deviations 3/4 and -1/4 three times: variance of a sample (9 + 3) / 16 / 3 = 1/4
    assert group_relative([1.0, 0.0, 0.0, 0.0]) == pytest.approx([0.75 / 0.5001, *[-0.25 / 0.5001] * 3])


def test_episodes_that_all_end_alike_tell_nothing() -> None:
    assert group_relative([1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0]
    assert group_relative([1.0]) == [0.0] and group_relative([]) == []


def test_an_episode_that_came_to_no_end_is_in_no_group() -> None:
    assert group_relative([1.0, None, 0.0]) == pytest.approx([0.5 / (0.5**0.5 + 1e-4), 0.0, -0.5 / (0.5**0.5 + 1e-4)])
    assert group_relative([1.0, None]) == [0.0, 0.0]


def test_a_return_is_what_follows_discounted_by_how_far_away_it_is() -> None:
    assert discounted([0.0, 1.0, 2.0], 0.5) == [1.0, 2.0, 2.0]
    assert discounted([], 0.5) == []


def test_steps_from_one_state_are_compared_by_what_followed() -> None:
    """Two episodes part at the hall: the one that opens wins one step later, the other only looks."""
    states = [["hall", "treasury"], ["hall", "hall"]]
    found = step_relative(states, [[0.0, 1.0], [0.0, 0.0]], 0.5)
    # the hall was left three times, with returns 1/2, 0, 0: mean 1/6, variance (1/9 + 2/36) / 2 = 1/12
    scale = (1 / 12) ** 0.5 + 1e-4
    assert found[0] == pytest.approx([(1 / 3) / scale, 0.0])
    assert found[1] == pytest.approx([(-1 / 6) / scale, (-1 / 6) / scale])


def test_a_state_that_was_come_by_once_tells_nothing() -> None:
    assert step_relative([["a"], ["b"]], [[1.0], [0.0]], 1.0) == [[0.0], [0.0]]


def test_the_advantage_of_a_step_is_added_to_that_of_its_episode() -> None:
    states, rewards = [["hall", "treasury"], ["hall", "hall"]], [[0.0, 1.0], [0.0, 0.0]]
    whole, steps = group_relative([1.0, 0.0]), step_relative(states, rewards, 0.5)
    assert advantages(states, rewards) == [[whole[0]] * 2, [whole[1]] * 2]
    both = advantages(states, rewards, step_weight=2.0, discount=0.5)
    assert both[0] == pytest.approx([whole[0] + 2 * step for step in steps[0]])
    assert both[1] == pytest.approx([whole[1] + 2 * step for step in steps[1]])


def test_what_came_to_no_end_has_no_advantage_and_is_no_anchor() -> None:
    found = advantages([["a"], ["a", "a"], ["a"]], [[1.0], None, [0.0]], step_weight=1.0)
    pair = group_relative([1.0, 0.0])
    assert found == [[2 * pair[0]], [0.0, 0.0], [2 * pair[1]]]


def test_a_bonus_is_part_of_what_episodes_are_compared_by() -> None:
    found = advantages([["a"], ["b"]], [[0.0], [0.0]], bonus=[1.0, 0.0])
    assert found == [[one] for one in group_relative([1.0, 0.0])]


def test_an_attempt_is_rewarded_for_what_it_is_better_than_the_one_before() -> None:
    assert improvement([0.25, 1.0, 0.5], 2.0) == [0.0, 1.5, -1.0]
    assert improvement([1.0], 2.0) == [0.0]


def test_nothing_is_better_than_an_attempt_that_came_to_no_end() -> None:
    assert improvement([None, 1.0, 1.0], 2.0) == [0.0, 0.0, 0.0]
    assert improvement([0.0, None], 2.0) == [0.0, 0.0]
