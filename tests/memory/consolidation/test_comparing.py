"""What episodes show, compared by hand."""

from __future__ import annotations

import pytest

from memory import Episode, Step
from memory.consolidation.comparing import Trace, compare, compare_successes, lost_with, trace, verb_template, won_with
from memory.consolidation.voting import Operation, Rule


@pytest.mark.parametrize(
    ("action", "template"),
    [
        ("take coin", "take …"),
        ("open black door", "open …"),
        ("put the red coin in box", "put … in …"),
        ("Look", "look"),
        ("close door to north", "close … to …"),
        ("", ""),
    ],
)
def test_an_action_is_known_by_its_verb_and_prepositions(action: str, template: str) -> None:
    assert verb_template(action) == template


def step(index: int, action: str, result: str = "", moved: bool = False, reward: float = 0.0) -> Step:
    state = "A hall with a note."
    return Step(
        index=index, observation="", state=state, admissible=[], action=action, result=result,
        next_state="Elsewhere." if moved else state, reward=reward,
    )  # fmt: skip


def test_a_trace_holds_what_did_something() -> None:
    steps = [
        step(0, "look around", "A hall with a note."),
        step(1, "task", "Find the coin!"),
        step(2, "read note", "The blue door is safe."),
        step(3, "open blue door", moved=True),
        step(4, "take coin", reward=0.5),
        step(5, "take coin", reward=0.25),
        step(6, "eat coin", reward=-1.0),
        step(7, "jump out"),
    ]
    episode = Episode(id="e", run="r", env="e", split="train", seed=0, goal="Find the coin.", steps=steps)
    assert trace(episode) == Trace({"read …": 0, "open …": 0, "take …": 0.75, "eat …": 0}, ("eat …",))
    assert trace(episode.model_copy(update={"status": "lost"})).harmful == ("eat …", "jump out")


def test_a_pair_speaks_for_what_only_the_winner_used_and_against_what_harmed_only_the_loser() -> None:
    rules = [Rule(won_with("read …")), Rule(won_with("sing")), Rule(lost_with("go …")), Rule(lost_with("dig"))]
    winner = Trace({"go …": 0, "read …": 0, "take …": 1.0, "wave": 0.5})
    loser = Trace({"sing": 0, "open …": 0}, ("open …", "go …"))
    assert compare(winner, loser, rules) == [
        Operation("REMOVE", 1),  # Only the loser sang.
        Operation("REMOVE", 2),  # The winner went, too.
        Operation("AGREE", 0),
        Operation("ADD", None, won_with("take …")),
        Operation("ADD", None, won_with("wave")),
        Operation("ADD", None, won_with("go …")),
        Operation("ADD", None, lost_with("open …")),
    ]


def test_at_most_four_rules_are_added_at_once() -> None:
    winner = Trace({f"verb{number}": float(number) for number in range(6)})
    found = compare(winner, Trace({}), [])
    assert [operation.text for operation in found] == [won_with(f"verb{number}") for number in (5, 4, 3, 2)]


def test_successes_agree_with_what_most_did_and_add_what_gained_in_all() -> None:
    rules = [Rule(won_with("read …")), Rule(won_with("sing")), Rule(lost_with("open …")), Rule("A person's own rule.")]
    winners = [
        Trace({"open …": 0, "read …": 0, "take …": 1.0}),
        Trace({"open …": 0, "read …": 0, "take …": 0.5, "put …": 0.5}),
        Trace({"take …": 1.0}),
    ]
    assert compare_successes(winners, rules) == [
        Operation("REMOVE", 1),
        Operation("REMOVE", 2),
        Operation("AGREE", 0),
        Operation("ADD", None, won_with("take …")),
    ]
    assert compare_successes([], rules[3:]) == []
