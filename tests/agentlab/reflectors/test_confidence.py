"""If-or-Else: a lesson is kept when the model is confident, else revised; a third prompt decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental.confidence import DECIDE, REVIEW, ConfidenceReflector
from agentlab.reflectors.experimental.written import LESSON
from memory.records import Episode, Step


@pytest.fixture
def played(step: Callable[..., Step], lived: Callable[..., Episode]) -> Episode:
    return lived(step(0, "open red door"), hints="SECRET", score=0.25)


@pytest.mark.parametrize("review", ["KEEP", "KEEP.", "KEEP, I am confident.", "read  the note first", ""])
def test_a_lesson_that_the_model_is_confident_in_is_kept(played: Episode, review: str) -> None:
    engine = ScriptedEngine({}, answers=["Read the note first.", review])
    (made,) = ConfidenceReflector(Model(engine)).reflect(played)
    assert (made.kind, made.text, made.tags[-1], made.oracle) == ("confidence", "Read the note first.", "kept", False)
    assert [prompt.splitlines()[-1] for prompt in engine.prompts] == [LESSON, REVIEW]
    assert "Lesson:\n| Read the note first.\n" in engine.prompts[1]
    assert not any("SECRET" in prompt or "0.25" in prompt for prompt in engine.prompts)


@pytest.mark.parametrize(
    ("decision", "text", "tag"),
    [
        ("2", "Keep calm and listen.", "decided:second"),
        ("1", "Read the note first.", "decided:first"),
        ("Both.", "Read the note first.", "decided:first"),
        ("", "Read the note first.", "decided:first"),
    ],
)
def test_a_disagreement_is_decided_by_a_third_prompt(played: Episode, decision: str, text: str, tag: str) -> None:
    engine = ScriptedEngine({}, answers=["Read the note first.", "Keep calm and listen.", decision])
    (made,) = ConfidenceReflector(Model(engine)).reflect(played)
    assert (made.text, made.tags[-1]) == (text, tag)
    assert engine.prompts[2].endswith(
        f"Lesson 1:\n| Read the note first.\nLesson 2:\n| Keep calm and listen.\n{DECIDE}\n"
    )


def test_without_a_first_lesson_nothing_is_reviewed(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=[""])
    assert [found.kind for found in ConfidenceReflector(Model(engine)).reflect(played)] == ["grounded"]
    assert len(engine.prompts) == 1
