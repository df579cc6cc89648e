"""Self-Contrast: perspectives, solutions, differences, a checklist, the lesson."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental.contrast import CHECK, COMPARE, PERSPECTIVES, ContrastReflector, distinct
from agentlab.reflectors.experimental.written import LESSON
from memory.records import Episode, Step

VIEWS = "1. Reading.\n2. Order.\n3. Luck."
SOLUTIONS = ["Read the note before doors.", "Open doors from left to right.", "Try the rarest colour."]


@pytest.fixture
def played(step: Callable[..., Step], lived: Callable[..., Episode]) -> Episode:
    return lived(step(0, "open red door"), hints="SECRET", score=0.25)


def test_solutions_from_several_perspectives_become_differences_a_checklist_and_a_lesson(played: Episode) -> None:
    engine = ScriptedEngine(
        {}, answers=[VIEWS, *SOLUTIONS, "Only one reads.", "1. Was the note read?", "Read the note, then open."]
    )
    (made,) = ContrastReflector(Model(engine)).reflect(played)
    assert (made.kind, made.text, made.oracle) == ("contrast", "Read the note, then open.", False)
    assert "solutions:3" in made.tags
    views, first, second, third, compare, check, lesson = engine.prompts
    assert "Name 3 different perspectives" in views
    for prompt, view in zip((first, second, third), ("Reading", "Order", "Luck"), strict=True):
        assert f"from this perspective: {view}." in prompt
    assert f"Solution 2:\n| {SOLUTIONS[1]}\n" in compare and compare.endswith(f"{COMPARE}\n")
    assert "Differences:\n| Only one reads.\n" in check and check.endswith(f"{CHECK}\n")
    assert "Checklist:\n| 1. Was the note read?\n" in lesson and lesson.endswith(f"{LESSON}\n")
    assert not any("SECRET" in prompt or "0.25" in prompt or "lost" in prompt for prompt in engine.prompts)


def test_where_the_model_names_no_perspectives_there_are_some(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Only one.", *SOLUTIONS[:2], "One reads.", "Read first?", "Read it."])
    ContrastReflector(Model(engine), perspectives=2).reflect(played)
    assert [view in prompt for view, prompt in zip(PERSPECTIVES, engine.prompts[1:3], strict=False)] == [True, True]
    assert len(engine.prompts) == 6


def test_when_all_solutions_say_the_same_it_is_the_lesson(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=[VIEWS, "Read the note first.", "First read the note!", "Read note first."])
    (made,) = ContrastReflector(Model(engine)).reflect(played)
    assert made.text == "Read the note first."
    assert "solutions:1" in made.tags
    assert len(engine.prompts) == 4


@pytest.mark.parametrize(("usable", "kind"), [(0, "grounded"), (3, "grounded"), (4, "grounded"), (5, "contrast")])
def test_a_chain_that_breaks_early_leaves_the_facts_and_late_the_checklist(
    played: Episode, usable: int, kind: str
) -> None:
    chain = [*SOLUTIONS, "Only one reads.", "Was the note read?"][:usable]
    (made,) = ContrastReflector(Model(ScriptedEngine({}, answers=[VIEWS, *chain, ""]))).reflect(played)
    assert made.kind == kind
    if kind == "contrast":
        assert made.text == "Was the note read?"


def test_an_engine_that_cannot_write_leaves_the_facts(played: Episode) -> None:
    assert [found.kind for found in ContrastReflector(None).reflect(played)] == ["grounded"]


def test_texts_are_the_same_from_a_share_of_their_words_on() -> None:
    # Content words: {read, note, first} and {read, note, twice}: 2 of 4.
    texts = ["Read the note first.", "Read the note twice."]
    assert distinct(texts, same=0.5) == texts[:1]
    assert distinct(texts, same=0.51) == texts
    assert distinct(["the", "an"]) == ["the"]
