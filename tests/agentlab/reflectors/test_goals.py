"""Goals that a trajectory reached: read off its states, or proposed and then borne out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.reflectors.experimental.goals import Reached, first_reached, holdings, place, proposed, read_off
from memory.records import Episode, Step

MakeEpisode = Callable[..., Episode]


def state(room: str, inventory: str = "empty", score: float = 0.0) -> str:
    return f"You are in the {room}. You see a door.\nInventory (at most 2): {inventory}.\nScore: {score:.2f}"


@pytest.fixture
def walk(lived: MakeEpisode) -> Episode:
    """Hall, kitchen (takes the key and gains), hall again (drops it), cellar, where the game is lost."""
    moves: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("look", state("hall"), state("hall"), "You are in the hall. You see a door.", {}),
        ("go north", state("hall"), state("kitchen"), "You are in the kitchen. You see an oven, a key.", {}),
        (
            "take key",
            state("kitchen"),
            state("kitchen", "a key", 0.5),
            "You take the key.",
            {"reward": 0.5, "score": 0.5},
        ),
        (
            "go south",
            state("kitchen", "a key", 0.5),
            state("hall", "a key", 0.5),
            "You are in the hall.",
            {"score": 0.5},
        ),
        ("drop key", state("hall", "a key", 0.5), state("hall"), "You drop the key.", {"reward": -0.5}),
        ("go down", state("hall"), state("cellar"), "You fall into the cellar. You lose.", {}),
    ]
    steps, seen = [], "You are in the hall. You see a door."
    for at, (action, before, after, result, more) in enumerate(moves):
        steps.append(
            Step(
                index=at, observation=seen, state=before, admissible=[action], action=action, result=result,
                next_state=after, **more,
            )
        )  # fmt: skip
        seen = result
    return lived(*steps, goal="Your task is to find the coin and the key.")


def told(found: Reached | None) -> tuple[str, int] | None:
    return None if found is None else (found.goal.text, found.position)


def test_what_a_trajectory_reached_is_read_off_its_states(walk: Episode) -> None:
    assert [(one.goal.kind, *(told(one) or ())) for one in read_off(walk)] == [
        ("score", "Do a part of this task, up to a score of 0.50. Your task is to find the coin and the key.", 2),
        ("deed", "Get the key.", 2),
        ("place", "Go to the kitchen.", 1),
    ]


def test_the_losing_step_and_where_one_began_are_no_goals(walk: Episode) -> None:
    assert not any("cellar" in one.goal.text or "hall" in one.goal.text for one in read_off(walk))
    walk.status = "truncated"
    assert "Go to the cellar." in [one.goal.text for one in read_off(walk)]


def test_a_score_counts_only_where_it_rose_above_the_best(step: Callable[..., Step], lived: MakeEpisode) -> None:
    up_and_down = [(0.25, 0.25), (0.25, 0.5), (-0.25, 0.25), (0.25, 0.5)]
    steps = [step(at, "go", reward=reward, score=score) for at, (reward, score) in enumerate(up_and_down)]
    (best,) = [one for one in read_off(lived(*steps)) if one.goal.kind == "score"]
    assert (best.goal.score, best.position) == (0.5, 1)
    assert not [one for one in read_off(lived(step(0, "go"))) if one.goal.kind == "score"]


@pytest.mark.parametrize(
    ("goal", "borne_out"),
    [
        ("take the key", ("Take the key.", 2)),
        ("Go to the kitchen.", ("Go to the kitchen.", 1)),
        ("Reach the kitchen!", ("Reach the kitchen.", 1)),
        ("Find an oven.", ("Find an oven.", 1)),
        ("Drop the key.", ("Drop the key.", 4)),
        ("Take the coin.", None),  # not there
        ("Take the oven.", None),  # seen, but not taken
        ("Eat the key.", None),  # not done
        ("Go to the hall.", None),  # began there
        ("See a door.", None),  # saw it from the start
        ("Go to the cellar.", None),  # lost there
        ("Look around.", None),  # changed nothing
        ("Do not take the key.", None),
        ("Take.", None),
        ("Take the.", None),
        ("Take " + "the big " * 9 + "key.", None),
        ("your task is to find the coin and the key", None),
    ],
)
def test_a_proposed_goal_is_kept_only_if_the_trajectory_bears_it_out(
    walk: Episode, goal: str, borne_out: tuple[str, int] | None
) -> None:
    found = proposed(goal, walk)
    assert told(found) == borne_out
    assert found is None or found.proposed


def test_a_goal_holds_after_its_step_and_not_before(walk: Episode) -> None:
    goals = {one.goal.kind: one.goal for one in read_off(walk)}
    assert [goals["place"].reached_by(step) for step in walk.steps] == [False, True, False, False, False, False]
    assert [goals["deed"].reached_by(step) for step in walk.steps] == [False, False, True, False, False, False]
    assert [goals["score"].reached_by(step) for step in walk.steps] == [False, False, True, False, False, False]
    assert first_reached(goals["place"], walk.model_copy(update={"steps": []})) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("You are in the kitchen. You see a stove.", "the kitchen"),
        ("You find yourself in a dark cave\nand more", "a dark cave"),
        ("You're now at the gate, alone.", "the gate, alone"),
        ("A bare room.", ""),
        ("Where you are in doubt, wait.", ""),
        ("", ""),
    ],
)
def test_a_place_is_known_only_where_the_state_says_so(text: str, name: str) -> None:
    assert place(text) == name


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("Dark.\nInventory (at most 2): a coin, some red flour.\nScore: 0.00", {"coin", "red flour"}),
        ("Dark.\nInventory: empty.", set()),
        ("inventory: the map", {"map"}),
        ("You see an inventory.", set()),
    ],
)
def test_what_is_held_stands_in_the_inventory(text: str, things: set[str]) -> None:
    assert holdings(text) == things
