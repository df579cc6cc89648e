"""Summaries of full groups, with their provenance."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory import Database, Episode, Reflection
from memory.consolidation import summaries
from memory.consolidation.job import Job
from memory.consolidation.summaries import extracted, goal_kind
from memory.store import Filter

Live = Callable[..., Episode]


def summarise(job: Job) -> list[tuple[str, ...]]:
    actions = summaries.plan(job).actions
    assert all(action.apply(job) for action in actions)
    return [action.items for action in actions]


def test_goals_are_of_one_kind_if_they_share_half_of_their_words() -> None:
    kinds: list[frozenset[str]] = []
    goals = [
        "Take the coin in the alley",  # take the coin in alley
        "Take the COIN in the 2 rooms!",  # 4 of 6 words
        "Read the note",  # 1 of 7
        "",
        "",
    ]
    assert [goal_kind(goal, kinds) for goal in goals] == [0, 0, 1, 2, 2]


def test_full_groups_are_summed_up_once_in_the_order_of_their_making(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    for number in range(5):
        live(f"e{number}", goal="Take the coin in the hall.", seed=number)
    live("other", goal="Sort all books by size.", seed=9)
    live("held-out", split="test", goal="Take the coin in the hall.")
    assert summarise(job(summary=2)) == [("r-e0", "r-e1"), ("r-e2", "r-e3")]
    assert summarise(job(summary=2)) == []
    live("e5", goal="Take the coin in the kitchen.", seed=5)
    assert summarise(job(summary=2)) == [("r-e4", "r-e5")]
    made = database.reflections.find(Filter(kinds=["summary"], status=None))[0]
    assert (made.tier, made.task, made.tags) == ("summary", "twx/coin:train:*", ["extracted"])
    assert made.derived_from == ["r-e0", "r-e1"]
    assert [evidence.episode for evidence in made.evidence] == ["e0", "e1"]
    assert {link.target for link in database.links.of(made.id, kind="derived")} == {"r-e0", "r-e1"}
    assert database.operations.recent()[0].name == "summary"


def test_without_a_model_the_texts_speak_for_themselves(reflection: Callable[..., Reflection]) -> None:
    members = [
        reflection("a", "The door was shut. The coin lay in the hall.", tags=["won"]),
        reflection("b", "The coin lay in the hall. It was dark.", tags=["lost"]),
        reflection("c", "The coin lay in the hall. The coin lay in the hall.", tags=["won"]),
    ]
    assert extracted(members, [0.2, 0.9, 0.9]) == (
        "From 3 games (2 won, 1 lost). 3 of them: The coin lay in the hall. "
        "Typical: The coin lay in the hall. It was dark."
    )


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ("Both give an account of e0 and of e1.", "written"),
        ("Bananas ripen fastest inside closed paper bags somewhere warm.", "extracted"),
        ("Account of e0.", "extracted"),
        ("", "extracted"),
    ],
)
def test_what_a_model_writes_counts_only_if_it_keeps_to_the_notes(
    live: Live, database: Database, job: Callable[..., Job], answer: str, tag: str
) -> None:
    for number in range(2):
        live(f"e{number}")
    prompts: list[str] = []

    def write(prompt: str, tokens: int) -> str:
        prompts.append(prompt)
        return answer

    summarise(job(write, summary=2))
    (made,) = database.reflections.find(Filter(kinds=["summary"], status=None))
    assert made.tags == [tag] and (made.text == answer) == (tag == "written")
    assert "- Account of e0.\n- Account of e1." in prompts[0]


def test_a_group_that_lost_a_member_since_the_plan_is_left(
    live: Live, database: Database, job: Callable[..., Job]
) -> None:
    for number in range(2):
        live(f"e{number}")
    here = job(summary=2)
    (action,) = summaries.plan(here).actions
    here.memory.forget("r-e0")
    assert not action.apply(here)
    assert summaries.plan(here).actions == []
    assert summaries.plan(here, frozenset({"r-e1"})).actions == []


def test_no_summary_is_made_of_what_is_on_probation(
    database: Database, reflection: Callable[..., Reflection], job: Callable[..., Job]
) -> None:
    for number in range(4):
        database.reflections.put(reflection(f"r-{number}", f"Coin {number}.", source="import:x"))
    assert summarise(job(summary=2)) == []
    for number in range(2):
        old = database.reflections.get(f"r-{number}")
        database.reflections.put(old.model_copy(update={"vouched": True}))
    assert summarise(job(summary=2)) == [("r-0", "r-1")]
