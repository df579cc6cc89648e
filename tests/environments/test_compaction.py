from __future__ import annotations

import re
import tracemalloc

import pytest

from environments import make
from environments.compaction import compact


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (
            "You are in the kitchen. In one part of the room you see a stove. There is also an oven. You also see a "
            "fridge that is closed. In another part of the room you see a counter, that has nothing on it. \nTo the "
            "South you see a closed patio door. Through an open plain door, to the West you see the pantry. ",
            "You are in the kitchen. You see a stove, an oven, a closed fridge, an empty counter. South: a closed "
            "patio door. West: the pantry (open plain door).",
        ),
        (
            "In one part of the room you see a counter that has a knife, and a cookbook on it. There is also An open "
            "fridge, that contains 1024 grapes, some salt, and 1 apple. You also see an open box, that is empty. \n",
            "You see a counter (a knife, a cookbook), an open fridge (1024 grapes, some salt, 1 apple), an empty open "
            "box.",
        ),
        (
            "Inventory (maximum capacity is 2 items): \n  Your inventory is currently empty.\n",
            "Inventory (at most 2): empty.",
        ),
        ("Inventory: \n  a map\n  12kg of oak\n", "Inventory: a map, 12kg of oak."),
        (
            "The map reads:\n  The parlor connects to the chamber.\n  The study connects to the parlor and den.\n",
            "The map reads: The parlor connects to the chamber. The study connects to the parlor and den.",
        ),
        (
            "Follow the directions.\n\nIngredients:\n  chicken wing\n  red apple\n\nDirections:\n  grill the chicken "
            "wing\n  prepare meal\n\n",
            "Follow the directions. Ingredients: chicken wing, red apple. Directions: grill the chicken wing, prepare "
            "meal.",
        ),
        ("Simon says, 'smell apple'.", "Simon says, 'smell apple'."),
        ("You can't move there, the door is closed. ", "You can't move there, the door is closed."),
        ("", ""),
    ],
)
def test_descriptions_become_short(long: str, short: str) -> None:
    assert compact(long) == short


def test_compaction_does_nothing_to_what_is_compact() -> None:
    text = "You are in the den. You see a box (a coin), a closed safe. South: the hall (open door)."
    assert compact(text) == text


@pytest.mark.parametrize("game", ["coin", "mapreader", "arithmetic", "sorting", "peckingorder", "twc", "cookingworld"])
def test_no_object_number_door_or_exit_of_a_real_game_is_lost(game: str) -> None:
    long, short = make(f"twx/{game}?compact=0"), make(f"twx/{game}")
    for seed in range(20):
        before, _ = long.reset(seed=seed)
        after, info = short.reset(seed=seed)
        for number in re.findall(r"\d+", before):
            assert number in after
        for command in info["admissible_commands"]:
            verb, _, thing = command.partition(" ")
            if verb in ("take", "open", "read", "move") and "door" not in thing and "map" not in thing:
                assert thing.lower() in after.lower()
        assert after.count("closed") == before.count("closed")
        assert after.count(" door") == before.count(" door")
        assert len(after) < 0.8 * len(before)
    long.close()
    short.close()


@pytest.mark.parametrize(
    "part",
    [
        "There is also a box ",
        "To the North you see ",
        "Through an open a, to the North you see ",
        "Through an open ",
        ": \n ",
    ],
)
def test_a_text_of_any_length_is_compacted_at_once(part: str) -> None:
    """In time that grows with its length: with the square of that, it would be minutes."""
    text = part * (100_000 // len(part))
    assert compact(text) == " ".join(text.split())
    holding = f"You also see a box{' that has x' * 10_000}."
    assert compact(holding) == holding


def test_of_long_texts_nothing_is_held() -> None:
    tracemalloc.start()
    try:
        for number in range(5):
            compact(f"{number} {'x' * 1_000_000}")
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
