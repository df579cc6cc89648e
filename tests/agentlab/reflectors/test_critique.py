"""Critique: a critic names the steps that were mistakes, the actor writes the lesson."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.reflectors.experimental.critique import CritiqueReflector
from agentlab.reflectors.experimental.written import LESSON
from memory.records import Episode, Step


@pytest.fixture
def played(step: Callable[..., Step], lived: Callable[..., Episode]) -> Episode:
    return lived(*(step(at, f"go {at}") for at in range(4)), hints="SECRET", score=0.25)


def critic(*answers: str) -> ScriptedEngine:
    engine = ScriptedEngine({}, answers=answers)
    engine.name = "critic"
    return engine


def test_the_critic_judges_steps_and_the_actor_draws_the_lesson(played: Episode) -> None:
    actor, other = ScriptedEngine({}, answers=["Look before you go."]), critic("- Step 2: too hasty.\n[0] blind.")
    (made,) = CritiqueReflector(Model(actor), Model(other)).reflect(played)
    assert (made.kind, made.text, made.oracle) == ("critique", "Look before you go.", False)
    assert made.evidence[0].steps == [0, 2]
    assert made.tags[-2:] == ["by:scripted", "critic:critic"]
    assert "at most 3 steps" in other.prompts[0]
    (prompt,) = actor.prompts
    assert prompt.endswith(f"A critic says:\n| Step 2, 'go 2': too hasty.\n| Step 0, 'go 0': blind.\n{LESSON}\n")
    assert not any("SECRET" in asked or "0.25" in asked for asked in [*actor.prompts, *other.prompts])


def test_remarks_on_steps_that_were_not_played_or_without_a_reason_are_dropped(played: Episode) -> None:
    said = "Step 9: far.\nStep 1: 42?\nNo step was bad.\nstep 3 - too late."
    reflector = CritiqueReflector(None, Model(critic(said)), remarks=4)
    assert [(step.index, reason) for step, reason in reflector.criticise(played)] == [(3, "too late.")]


def test_of_two_remarks_on_a_step_the_first_counts_and_of_many_only_some(played: Episode) -> None:
    said = "Step 1: slow.\nStep 1: too slow.\nStep 2: odd.\nStep 3: late."
    found = CritiqueReflector(None, Model(critic(said))).criticise(played)
    assert [(step.index, reason) for step, reason in found] == [(1, "slow."), (2, "odd.")]


def test_where_the_actor_cannot_write_the_remarks_are_the_lesson(played: Episode) -> None:
    (made,) = CritiqueReflector(None, Model(critic("Step 1: you went blind."))).reflect(played)
    assert made.text == "Step 1, 'go 1': you went blind."
    assert made.evidence[0].steps == [1]


def test_a_critic_without_remarks_leaves_the_facts(played: Episode) -> None:
    (made,) = CritiqueReflector(Model(ScriptedEngine({}, answers=["Be quick."])), Model(critic("All fine."))).reflect(
        played
    )
    assert made.kind == "grounded"


def test_one_engine_can_play_both_parts(played: Episode) -> None:
    engine = ScriptedEngine({}, answers=["Step 1: hasty.", "Take your time."])
    (made,) = CritiqueReflector(Model(engine)).reflect(played)
    assert made.text == "Take your time."


def test_told_the_outcome_it_reflects_on_failures_only_and_says_that_an_oracle_spoke(
    played: Episode, lived: Callable[..., Episode]
) -> None:
    reflector = CritiqueReflector(None, Model(other := critic("Step 1: hasty.")), oracle=True)
    (made,) = reflector.reflect(played)
    assert made.oracle is True and "Result: lost, score 0.25." in other.prompts[0]
    assert reflector.reflect(lived(*played.steps, status="won")) == []
