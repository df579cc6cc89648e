from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.search.tree import Tree
from agentlab.search.values import quality, step_values
from memory.records import Episode


def test_good_steps_share_what_is_left_to_the_success() -> None:
    # v1 = 0 + 1·1/(2+1); v2 = 1/3 + 2/3·1/(1+1); v3 = 2/3 + 1/3·1/(0+1)
    assert quality(3, [2, 1, 0]) == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_a_bad_step_costs_as_much_as_a_good_one_would_have_gained_and_never_makes_it_negative() -> None:
    # After two good steps of three: v = 2/3, m = 1; a bad one: 2/3 − 1/3·1/(1+1) = 1/2; another: 1/2 − 1/2·1/2 = 1/4
    assert quality(3, [2, 1, None, None]) == pytest.approx([1 / 3, 2 / 3, 1 / 2, 1 / 4])
    assert quality(3, [None, None]) == [0.0, 0.0]


def test_a_step_in_vain_gains_less_than_a_straight_one() -> None:
    # m stays 3: v1 = 1/(3+1); then m = 2, 1, 0
    assert quality(3, [3, 2, 1, 0]) == pytest.approx([0.25, 0.25 + 0.75 / 3, 0.5 + 0.5 / 2, 1.0])


def test_without_any_known_success_no_step_has_a_value() -> None:
    assert quality(None, [None, None]) == [0.0, 0.0]


def test_the_tree_knows_which_successes_follow_a_step(played: Callable[..., Episode]) -> None:
    won, lost = played("east", "east", "east"), played("east", "west", "west")
    tree = Tree.of([won, lost])
    assert step_values(tree, won) == pytest.approx([1 / 3, 2 / 3, 1.0])
    # m = 2 after the first step, and of the wrong ones too: 1/3 − 2/3·1/3 = 1/9; 1/9 − 8/9·1/3 < 0
    assert step_values(tree, lost) == pytest.approx([1 / 3, 1 / 9, 0.0])
