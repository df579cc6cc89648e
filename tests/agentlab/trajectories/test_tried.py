from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from agentlab.trajectories.advice import AdviceWeights
from agentlab.trajectories.tried import Places, Tried
from memory.records import Step

WEIGHTS = AdviceWeights()
NOTHING = "You carry nothing.\nScore: 0.00"
A_CUP = "You carry a cup.\nScore: 0.00"


def step(index: int, action: str, *, state: str = "", after: str = "", reward: float = 0.0, score: float = 0.0) -> Step:
    return Step(
        index=index,
        observation=f"before {index}",
        state=state or f"state {index}",
        admissible=[action],
        action=action,
        result=f"after {index}",
        next_state=after or f"state {index + 1}",
        reward=reward,
        score=score,
    )


def walked(*ways: tuple[str, str, str]) -> Tried:
    """What was tried by actions, each from one state to another."""
    tried = Tried()
    for index, (state, action, after) in enumerate(ways):
        tried.observe(step(index, action, state=state, after=after))
    return tried


def at(place: str, carried: str = NOTHING) -> str:
    return f"You are at the {place}.\n{carried}"


def went(*places: str, carried: str = NOTHING) -> list[tuple[str, str, str]]:
    """Going from place to place by their names."""
    return [(at(start, carried), f"go to {end}", at(end, carried)) for start, end in itertools.pairwise(places)]


def again(tried: Tried, state: str, commands: Sequence[str]) -> list[float]:
    """How often each command counts as tried."""
    return [cost / WEIGHTS.again for cost in tried.costs(state, commands, WEIGHTS)]


def test_trying_again_costs_as_much_each_time_whatever_came_of_it() -> None:
    tried = Tried()
    for times in range(5):
        assert tried.costs("s", ["take coin", "look"], WEIGHTS) == [times * WEIGHTS.again, 0.0]
        tried.observe(step(times, "take coin", state="s", reward=0.5, score=0.5))
    assert tried.costs("elsewhere", ["take coin"], WEIGHTS) == [0.0]
    assert WEIGHTS.again < -1


def test_what_cost_reward_in_this_episode_costs_in_every_state_of_it() -> None:
    tried = Tried()
    tried.observe(step(0, "look", state="kitchen"))
    tried.observe(step(1, "put hat in chest", state="kitchen", reward=-0.5))
    commands = ["put hat in chest", "put hat in wardrobe"]
    assert tried.costs("kitchen, the chest is open", commands, WEIGHTS) == [WEIGHTS.negative, 0.0]
    assert tried.costs("kitchen", commands, WEIGHTS) == [WEIGHTS.negative + WEIGHTS.again, 0.0]
    assert Tried().costs("kitchen", commands, WEIGHTS) == [0.0, 0.0]


def test_where_most_steps_cost_reward_no_command_is_held_against_it_elsewhere() -> None:
    tried = Tried()
    for times in range(3):
        tried.observe(step(times, "up", state=f"cliff {times}", reward=-1.0))
    tried.observe(step(3, "right", state="cliff 3"))
    assert tried.costs("cliff 4", ["up", "right"], WEIGHTS) == [0.0, 0.0]


def test_a_place_that_was_gone_to_is_not_gone_to_again_from_elsewhere_while_there_are_others() -> None:
    tried = walked(*went("door", "shelf", "sofa", "desk", "shelf", "bed"))
    commands = ["go to shelf", "go to sofa", "go to desk", "go to chair"]
    assert again(tried, at("bed"), commands) == [2, 1, 1, 0]
    # Where all were gone to, those that were gone to least are as good as new.
    assert again(tried, at("bed"), commands[:3]) == [1, 0, 0]
    # And the only way out costs nothing.
    assert again(tried, at("bed"), ["go to shelf", "look"]) == [0, 0]


def test_it_takes_a_place_that_was_found_again_to_know_that_commands_lead_there_from_everywhere() -> None:
    assert again(walked(*went("door", "shelf", "sofa")), at("bed"), ["go to shelf", "go to chair"]) == [0, 0]


def test_ways_that_lead_elsewhere_from_elsewhere_do_not_count_as_gone() -> None:
    rooms = ["hall", "attic", "barn", "cellar", "den"]
    tried = walked(*((at(start), "move north", at(end)) for start, end in itertools.pairwise(rooms)))
    assert again(tried, at("den"), ["move north", "move south"]) == [0, 0]
    # Not even where one of them once came to the same, such as from a room in which a door was opened meanwhile.
    tried.observe(step(4, "move north", state=f"The door is open.\n{at('hall')}", after=at("attic")))
    assert again(tried, at("den"), ["move north", "move south"]) == [0, 0]


def moved(*ways: str) -> list[tuple[str, str, str]]:
    """Moving about rooms that are named by where they lie: `n2e1` two to the north and one to the east."""
    x, y, steps = 0, 0, []
    for way in ways:
        start = at(f"n{y}e{x}")
        x += (way == "east") - (way == "west")
        y += (way == "north") - (way == "south")
        steps.append((start, f"move {way}", at(f"n{y}e{x}")))
    return steps


def test_the_way_back_leads_to_where_one_has_been_once_it_is_known_what_undoes_what() -> None:
    ways = ["move north", "move south", "move west"]
    # Nobody knows yet that south undoes north.
    assert again(walked(*moved("north")), at("n1e0"), ways) == [0, 0, 0]
    tried = walked(*moved("north", "south", "east", "north"))
    assert again(tried, at("n1e1"), ways) == [0, 1, 0]
    # A dead end has one way out, which costs nothing.
    assert again(tried, at("n1e1"), ["move south", "take coin"]) == [0, 0]


def test_what_leads_nowhere_counts_as_often_as_it_was_tried() -> None:
    tried = walked(*moved("north", "south"), (at("n0e0"), "move up", at("n0e0")))
    assert again(tried, at("n0e0"), ["move up", "move down"]) == [1, 0]


def test_what_undid_a_way_and_then_does_not_is_no_longer_thought_to() -> None:
    tried = walked(*moved("north", "south", "east", "north"))
    # One-way streets: south leads elsewhere.
    for place in ("cave", "den"):
        tried.observe(step(9, "move south", state=at("n1e1"), after=at(place)))
        tried.observe(step(9, "move north", state=at(place), after=at("n1e1")))
    assert again(tried, at("n2e5"), ["move south", "move west"]) == [0, 0]


def test_where_one_has_been_often_is_gone_to_last() -> None:
    tried = walked(*moved("north", "south", "north", "south", "east", "west"))
    # Twice at the north, once at the east; the middle was left in both of these ways, but not to the west.
    assert again(tried, at("n0e0"), ["move north", "move east", "move west"]) == [2, 1, 0]


def test_with_something_else_in_hand_every_place_is_new() -> None:
    tried = walked(*went("door", "shelf", "sofa", "shelf"), (at("shelf"), "take cup", at("shelf", A_CUP)))
    assert again(tried, at("shelf", A_CUP), ["go to sofa", "go to desk"]) == [0, 0]
    tried.observe(step(9, "go to sofa", state=at("shelf", A_CUP), after=at("sofa", A_CUP)))
    assert again(tried, at("desk", A_CUP), ["go to sofa", "go to shelf"]) == [1, 0]
    # With empty hands all is as it was then.
    assert again(tried, at("desk"), ["go to sofa", "go to shelf", "go to bed"]) == [1, 2, 0]


def test_what_was_opened_in_a_place_makes_it_no_other_place() -> None:
    closed, opened = f"The chest is closed.\n{NOTHING}", f"The chest is open.\n{NOTHING}"
    tried = walked(
        (at("door"), "go to chest", closed),
        (closed, "open chest", opened),
        (opened, "go to sofa", at("sofa")),
        (at("sofa"), "go to chest", opened),
        (opened, "go to desk", at("desk")),
    )
    assert again(tried, at("desk"), ["go to chest", "go to sofa", "go to bed"]) == [2, 1, 0]


@pytest.mark.parametrize("said", ["", "\nScore: 0.00"])
def test_where_a_state_does_not_say_what_one_carries_no_place_counts_as_gone(said: str) -> None:
    places = ["door", "shelf", "sofa", "shelf", "desk"]
    tried = walked(*((f"{a}{said}", f"go to {b}", f"{b}{said}") for a, b in itertools.pairwise(places)))
    assert again(tried, f"desk{said}", ["go to shelf", "go to bed"]) == [0, 0]


def test_the_same_command_in_the_same_state_counts_once() -> None:
    tried = walked(*went("door", "shelf", "sofa", "shelf", "door", "shelf"))
    assert again(tried, at("door"), ["go to shelf", "go to bed"]) == [3, 0]


def test_places_are_counted_in_the_order_of_the_commands() -> None:
    places = Places()
    for index, (state, action, after) in enumerate(went("door", "shelf", "sofa", "shelf")):
        places.observe(step(index, action, state=state, after=after))
    assert places.visits(at("shelf"), ["look", "go to sofa", "take cup", "go to bed"]) == [0, 1, 0, 0]
