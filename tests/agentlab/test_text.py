"""Advice on one command bears on others by their wording."""

from __future__ import annotations

import pytest

from agentlab.text import carried, likeness


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("take milk", "take milk", 1.0),
        ("take milk", "Take Milk", 1.0),
        ("take milk", "open fridge", 0.0),
        ("take milk", "take coin", 0.5),  # 2 * 1 of 4 words
        ("put milk in fridge", "put cheese in fridge", 0.75),  # 2 * 3 of 8
        ("put milk in fridge", "take milk in fridge", 0.0),  # another verb
        ("", "take milk", 0.0),
    ],
)
def test_likeness_is_the_share_of_words_in_the_same_order_under_the_same_verb(
    one: str, other: str, expected: float
) -> None:
    assert likeness(one, other) == likeness(other, one) == expected


def test_an_admissible_command_means_itself_alone() -> None:
    doors = ["open door to north", "open door to south"]
    assert carried("open door to north", doors) == {"open door to north": 1.0}


def test_a_command_that_is_not_admissible_bears_on_those_most_like_it() -> None:
    commands = ["put cheese in fridge", "put cheese in oven", "take cheese", "look around"]
    assert carried("put milk in fridge", commands) == {"put cheese in fridge": 0.75}
    assert carried("take milk", ["take cheese", "take bread", "look around"]) == {"take cheese": 0.5, "take bread": 0.5}
    assert carried("sing", commands) == {}
    assert carried("sing", []) == {}
