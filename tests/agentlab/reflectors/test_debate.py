"""Debate: two debaters, a moderator who may stop them, a judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental.debate import JUDGE, MODERATE, OPPOSE, PROPOSE, REPLY, DebateReflector
from memory.records import Episode, Step


@pytest.fixture
def played(step: Callable[..., Step], lived: Callable[..., Episode]) -> Episode:
    return lived(step(0, "open red door"), hints="SECRET", score=0.25)


def questions(engine: ScriptedEngine) -> list[str]:
    return [prompt.splitlines()[-1] for prompt in engine.prompts]


def test_the_judge_writes_the_lesson_after_all_rounds(played: Episode) -> None:
    said = [
        "Read the note.",
        "Open doors faster.",
        "CONTINUE",
        "Reading is safe.",
        "Doors are few.",
        "Read, then open.",
    ]
    engine = ScriptedEngine({}, answers=said)
    (made,) = DebateReflector(Model(engine)).reflect(played)
    assert (made.kind, made.text, made.oracle) == ("debate", "Read, then open.", False)
    assert made.tags[-2:] == ["judge:scripted", "rounds:2"]
    assert questions(engine) == [PROPOSE, OPPOSE, MODERATE, REPLY, OPPOSE, JUDGE]
    assert engine.prompts[-1].endswith(
        "First debater:\n| Read the note.\nSecond debater:\n| Open doors faster.\n"
        f"First debater:\n| Reading is safe.\nSecond debater:\n| Doors are few.\n{JUDGE}\n"
    )
    assert not any("SECRET" in prompt or "0.25" in prompt for prompt in engine.prompts)


def test_the_moderator_may_stop_the_debate(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Read the note.", "I agree, read it.", "STOP.", "Read the note at once."])
    (made,) = DebateReflector(Model(engine), rounds=5).reflect(played)
    assert questions(engine) == [PROPOSE, OPPOSE, MODERATE, JUDGE]
    assert made.tags[-1] == "rounds:1"


def test_the_judge_may_side_with_a_debater_word_for_word(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Read the note.", "Open doors faster.", "Read the note."])
    (made,) = DebateReflector(Model(engine), rounds=1).reflect(played)
    assert made.text == "Read the note."


def test_a_second_engine_moderates_and_judges(played: Episode) -> None:
    debaters = ScriptedEngine({}, answers=["Read the note.", "Open doors faster."])
    judge = ScriptedEngine({}, answers=["stop", "Read it."])
    judge.name = "judge"
    (made,) = DebateReflector(Model(debaters), Model(judge)).reflect(played)
    assert (questions(debaters), questions(judge)) == ([PROPOSE, OPPOSE], [MODERATE, JUDGE])
    assert made.text == "Read it." and "judge:judge" in made.tags


def test_a_debater_who_falls_silent_ends_the_debate(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Read the note.", "", "Read it first."])
    (made,) = DebateReflector(Model(engine)).reflect(played)
    assert questions(engine) == [PROPOSE, OPPOSE, JUDGE]
    assert made.text == "Read it first."


@pytest.mark.parametrize("answers", [[""], ["Read the note.", "Open doors faster.", "stop", ""]])
def test_without_a_verdict_the_facts_are_left(played: Episode, answers: list[str]) -> None:
    (made,) = DebateReflector(Model(ScriptedEngine({}, answers=answers))).reflect(played)
    assert made.kind == "grounded"
