"""What was read in an episode is told from what can be seen again, and stays as one line."""

from __future__ import annotations

import pytest

from memory.prompts import Reading, pinned, read_at_start, read_by, readings
from memory.records import Step

KITCHEN = "You are in the kitchen. You see a fridge, a cookbook. Inventory: empty. Score: 0.00"
RECIPE = "Gather all ingredients: chicken wing, black pepper. Directions: roast the chicken wing, prepare meal."


def lived(action: str, result: str, *, state: str = KITCHEN, after: str = KITCHEN, invalid: bool = False) -> Step:
    return Step(
        index=0, observation="", state=state, admissible=[], action=action, result=result, next_state=after,
        invalid=invalid,
    )  # fmt: skip


def test_a_recipe_was_read() -> None:
    assert read_by(lived("read cookbook", RECIPE)) == Reading("read cookbook", RECIPE)


@pytest.mark.parametrize(
    "step",
    [
        lived("look around", KITCHEN),
        lived("open fridge", "You open the fridge. It holds a lime, a leek, a pear, an egg, a plum, a beet.",
              after="You see an open fridge that holds a lime, a leek, a pear, an egg, a plum, a beet."),
        lived("go north", "You are in the hall. North: a pantry, a cellar, a garden, a shed.",
              after="You are in the hall. North: a pantry, a cellar, a garden, a shed. Score: 0.00"),
        lived("examine cookbook", "You see nothing special about the cookbook."),
        lived("sing a song", "There is no such command here; what may that mean, friend?", invalid=True),
    ],
)  # fmt: skip
def test_what_is_seen_again_at_any_time_or_says_nothing_was_not(step: Step) -> None:
    assert read_by(step) is None


def test_what_is_told_at_the_beginning_alone_was_read() -> None:
    told = f"Long ago a thief hid seven golden rings beneath this house. {KITCHEN}"
    assert read_at_start("Find the rings.", told, KITCHEN) == Reading("", told)
    assert read_at_start("Cook.", KITCHEN, KITCHEN) is None


def test_each_observation_has_what_was_read_in_it() -> None:
    steps = [lived("look", KITCHEN), lived("read cookbook", RECIPE), lived("look", KITCHEN)]
    steps[0] = steps[0].model_copy(update={"observation": KITCHEN})
    assert readings("Cook.", steps) == [None, None, Reading("read cookbook", RECIPE)]
    assert readings("Cook.", []) == []


def test_it_stays_as_one_line_without_what_was_read_twice() -> None:
    line = pinned([
        Reading("", "Once\n> upon a time."), None, Reading("read map", "An old map."), Reading("read map", "A map."),
        Reading("read book", RECIPE), Reading("examine book", RECIPE),
    ])  # fmt: skip
    assert line == f"Read before: Once > upon a time. / read map: A map. / examine book: {RECIPE}\n"
    assert pinned([]) == pinned([None]) == ""


def test_of_very_much_what_was_read_last_stays() -> None:
    line = pinned([Reading("read a", "a " * 400), Reading("read b", "b " * 400)])
    assert line.count("b") > 399 and 50 < line.count("a ") < 150 and len(line) < 1100
    assert len(pinned([Reading("read a", "a " * 5000)])) < 1100
