"""Records derive what they can from their own fields, and an episode becomes text in one way."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Any

import pydantic
import pytest

import memory
from memory import Advice, Episode, Step
from memory.records import content_id, state_key, task_parts
from memory.rendering import segments


def test_an_id_depends_on_content_alone() -> None:
    assert content_id("rf", "a", 1) == content_id("rf", "a", "1")
    assert content_id("rf", "ab") != content_id("rf", "a", "b")


def test_ids_do_not_meet_among_ten_million() -> None:
    known = content_id("rf", "a").removeprefix("rf-")
    assert len(known) * 5 >= 80 and set(known) <= set(string.ascii_lowercase + "234567")


def test_a_setting_with_a_default_that_a_release_adds_changes_no_id() -> None:
    @dataclass(frozen=True)
    class Weights:
        lost: float = -8.0

    @dataclass(frozen=True)
    class Old:
        temperature: float
        weights: Weights = field(default_factory=Weights)
        skills: tuple[str, ...] = ()

    newer = make_dataclass("Newer", [("budget", int, 300)], bases=(Old,), frozen=True)
    old, new = Old(0.5), newer(0.5)
    assert content_id("arm", old) == content_id("arm", new)
    assert content_id("arm", old, None) == content_id("arm", new, None)
    ids = {content_id("arm", settings) for settings in (old, newer(0.5, budget=200), Old(0.7), Old(0.5, Weights(-1.0)))}
    assert len(ids) == 4


def test_settings_that_are_pydantic_models_count_by_what_differs_from_their_defaults() -> None:
    class Old(pydantic.BaseModel):
        seeds: int = 3

    class Newer(Old):
        budget: int | None = None

    assert content_id("x", Old(seeds=5)) == content_id("x", Newer(seeds=5)) != content_id("x", Newer(seeds=5, budget=1))
    assert content_id("x", {"a": Old(), "b": [1]}) == content_id("x", {"b": [1], "a": Newer()})


def test_an_id_can_be_made_of_any_text() -> None:
    texts: list[Any] = ["\ud83d", "\ud83e", "", "\x1f"]
    assert len({content_id("rf", text) for text in texts}) == len(texts)


def test_an_episode_knows_its_task_and_its_actions(episode: Callable[..., Episode]) -> None:
    played = episode(status="won")
    assert (played.task_id, played.won, played.actions) == ("twx/coin:train:3", True, ["go north", "go south"])


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("twx/coin:train:3", ("twx/coin", "train", "3")),
        ("x:train:y:test:3", ("x:train:y", "test", "3")),
        ("gym/a:b-v0:dev:7", ("gym/a:b-v0", "dev", "7")),
        ("e:train:", ("e", "train", "")),
        ("e", ("e", "", "")),
        ("a:b", ("a:b", "", "")),
        ("", ("", "", "")),
    ],
)
def test_the_id_of_a_task_is_read_from_its_end(task: str, parts: tuple[str, str, str]) -> None:
    assert tuple(task_parts(task)) == parts


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(pydantic.ValidationError):
        Advice(state="Here.", action="wait", valeu=1.0)  # type: ignore[call-arg]


def test_advice_is_filed_by_its_state_and_action() -> None:
    assert Advice(state="Here.", action="wait").key == (state_key("Here."), "wait")


@pytest.mark.parametrize(
    ("result", "next_state", "expected"),
    [("", "Here.", True), ("A room.", "Here.", True), ("You see a map.", "Here.", False), ("", "There.", False)],
)
def test_a_step_without_effect_changes_nothing_and_says_nothing_new(
    result: str, next_state: str, expected: bool
) -> None:
    step = Step(
        index=0, observation="A room.", state="Here.", admissible=["wait"], action="wait", result=result,
        next_state=next_state,
    )  # fmt: skip
    assert step.no_effect is expected


def test_the_transcript_holds_hints_only_where_they_are_wanted(episode: Callable[..., Episode]) -> None:
    played = episode(hints="Look in the kitchen.\n")
    text = "".join(segment.text for segment in segments(played))
    head = "Task: Find it.\nHints:\nLook in the kitchen.\n\n"
    turns = "Room 0.\n> go north\nRoom 1.\n> go south\n"
    assert text == head + turns
    assert "".join(segment.text for segment in segments(played, with_hints=False)) == "Task: Find it.\n" + turns
    assert "".join(segment.text for segment in segments(played) if segment.chosen) == " go north\n go south\n"


def test_the_package_offers_what_it_lists() -> None:
    assert all(getattr(memory, name) for name in memory.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        memory.Nothing  # noqa: B018
