"""Renze & Guven's eight kinds of self-reflection and their redaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental import renze
from agentlab.reflectors.experimental.renze import KINDS, QUESTIONS, REDACTED, RenzeReflector, redact
from memory.records import Episode, Step

MakeStep = Callable[..., Step]
MakeEpisode = Callable[..., Episode]


@pytest.fixture
def failed(step: MakeStep, lived: MakeEpisode) -> Episode:
    """A failure in which opening the red door raised the score."""
    return lived(
        step(0, "read note"), step(1, "open red door", reward=0.5, score=0.5), step(2, "open blue door"), hints="SECRET"
    )


def reflected(kind: Any, failed: Episode, *answers: str) -> tuple[list[Any], list[str]]:
    engine = ScriptedEngine({}, answers=answers)
    return RenzeReflector(Model(engine), kind).reflect(failed), engine.prompts


def test_there_are_eight_kinds() -> None:
    assert KINDS == (
        "retry", "keywords", "advice", "explanation", "instructions", "solution", "composite", "unredacted"
    )  # fmt: skip
    assert all(RenzeReflector(None, kind).name == kind for kind in KINDS)


def test_retry_writes_nothing_and_asks_nothing(failed: Episode) -> None:
    assert reflected("retry", failed, "Something.") == ([], [])


@pytest.mark.parametrize("kind", list(QUESTIONS))
def test_a_kind_asks_its_own_question_and_tells_the_answer_as_data(kind: str, failed: Episode) -> None:
    [made], [prompt] = reflected(kind, failed, "Read it first.")
    assert (made.kind, made.text, made.oracle) == (kind, "Read it first.", True)
    assert prompt.endswith(f"Known to be right:\n| open red door\n{QUESTIONS[kind]}\n")
    assert "Result: lost" in prompt and "SECRET" not in prompt
    assert made.evidence[0].steps == [0, 1, 2]


@pytest.mark.parametrize("kind", list(QUESTIONS))
def test_the_answer_is_taken_out_of_every_single_kind(kind: str, failed: Episode) -> None:
    [made], _ = reflected(kind, failed, "Read the note, then open the red door.")
    assert made.text == f"Read the note, then {REDACTED}."
    assert "redacted" in made.tags


def test_composite_has_all_five_redacted_and_unredacted_the_same_with_the_answer(failed: Episode) -> None:
    answers = ("note, door", "Read more.", "You guessed.", "1. Read. 2. Open red door.", "Open the red door.", "x y z.")
    [composite], prompts = reflected("composite", failed, *answers)
    assert composite.text == (
        f"Keywords: note, door Advice: Read more. Explanation: You guessed. Instructions: 1. Read. 2. {REDACTED}."
    )  # the solution was nothing but the answer
    assert [next(name for name, asked in QUESTIONS.items() if asked in prompt) for prompt in prompts] == list(QUESTIONS)
    [unredacted], _ = reflected("unredacted", failed, *answers)
    assert unredacted.text == (
        "Keywords: note, door Advice: Read more. Explanation: You guessed. "
        "Instructions: 1. Read. 2. Open red door. Solution: Open the red door."
    )


def test_the_winning_commands_can_be_told_and_are_then_redacted(failed: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Open the red door and take the coin at once."])
    reflector = RenzeReflector(Model(engine), "solution", answers=lambda episode: ["open red door", "take coin"])
    (made,) = reflector.reflect(failed)
    assert made.text == f"{REDACTED} and {REDACTED} at once."
    assert "| open red door\n| take coin\n" in engine.prompts[0]


def test_where_no_answer_is_known_none_is_told(step: MakeStep, lived: MakeEpisode) -> None:
    [made], [prompt] = reflected("advice", lived(step(0, "wait")), "Move on.")
    assert "Known to be right" not in prompt
    assert made.text == "Move on."


def test_the_facts_that_stand_in_for_a_redacted_text_do_not_tell_the_answer(failed: Episode) -> None:
    for kind in ("solution", "composite"):
        [made], _ = reflected(kind, failed, "Open the red door.")
        assert made.kind == kind and "by:grounded" in made.tags and made.advice == []
        assert "red door" not in made.text and f"What raised the score: '{REDACTED}'." in made.text
    [made] = RenzeReflector(None, "unredacted").reflect(failed)
    assert made.kind == "grounded" and "'open red door'" in made.text
    assert RenzeReflector(None, "advice", fallback=None).reflect(failed) == []


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("OPEN the Red  Door now", f"{REDACTED} now"),
        ("opening a red door, she opened red door", f"{REDACTED}, she {REDACTED}"),
        ("open red doors", "open red doors"),
        ("reopen red door", "reopen red door"),
        ("the red door", "the red door"),
        ("I took the coin by taking that coin", f"I {REDACTED} by {REDACTED}"),
        ("putting the map in the box", f"{REDACTED}"),
        ("go north or going north", f"{REDACTED} or {REDACTED}"),
        ("answer 42, not 421", f"answer {REDACTED}, not 421"),
    ],
)
def test_an_answer_is_known_in_any_case_with_articles_and_in_other_forms_of_its_verb(text: str, redacted: str) -> None:
    answers = ["open red door", "take coin", "put map in box", "go north", "42", " "]
    assert redact(text, answers) == redacted


def test_the_longest_answer_is_taken_out_first() -> None:
    assert redact("Take the coin purse.", ["take coin", "take coin purse"]) == f"{REDACTED}."


def test_what_raised_the_score_is_the_known_part_of_the_answer(failed: Episode) -> None:
    assert renze.gained(failed) == ["open red door"]
