"""Reflectors by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentlab.agent.arms import RecallConfig
from agentlab.cli import app
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import UnknownReflector
from agentlab.lab import Lab
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.experimental.critique import CritiqueReflector
from agentlab.reflectors.experimental.debate import DebateReflector
from agentlab.reflectors.grounded import GroundedReflector
from agentlab.reflectors.registry import REFLECTORS, TEXT_KINDS, build, validate


def test_every_name_makes_a_reflector_of_that_name_which_says_whether_an_oracle_speaks() -> None:
    made: list[Any] = build(list(REFLECTORS), ScriptedEngine({}))
    assert all(isinstance(one, Reflector) for one in made)
    assert [one.name for one in made] == list(REFLECTORS)
    assert [one.oracle for one in made] == [entry.oracle for entry in REFLECTORS.values()]
    assert {name for name, entry in REFLECTORS.items() if not entry.oracle} == {
        "contrast",
        "critique",
        "debate",
        "confidence",
    }


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    assert validate("debate") == "debate"
    with pytest.raises(UnknownReflector, match="No reflector is called `debat`; did you mean `debate`"):
        build(["grounded", "debat"], None)


def test_one_s_own_reflectors_stand_among_names() -> None:
    mine = GroundedReflector()
    assert build([mine, "exemplar"], None)[0] is mine


def test_the_second_model_is_fetched_only_for_those_that_have_a_part_for_it() -> None:
    fetched: list[Model] = []

    def fetch() -> Model:
        fetched.append(Model(ScriptedEngine({})))
        return fetched[-1]

    build(["grounded", "written", "confidence"], None, fetch)
    assert fetched == []
    critique, debate = build(["critique", "debate"], None, fetch)
    assert isinstance(critique, CritiqueReflector) and critique.critic.model is fetched[0]
    assert isinstance(debate, DebateReflector) and debate.judge.model is fetched[1]


def test_every_kind_of_text_is_recalled_as_text_but_exemplars_and_retry() -> None:
    assert set(REFLECTORS) - set(TEXT_KINDS) == {"exemplar", "retry"}


def test_a_lab_takes_reflectors_by_name_and_another_choice_is_another_run(open_lab: Callable[..., Lab]) -> None:
    engine = ScriptedEngine({"look": 0.0}, answers=["Open a door."])
    lab = open_lab(engine=engine, recall_text=1, reflectors=["keywords"])
    for chosen in (None, ["advice", "written"]):
        lab.run("toy/doors", seeds=[0], trials=1, reflectors=chosen)
    assert [found.kind for found in lab.database.reflections.find()] == ["keywords", "advice", "written"]
    assert len({row.run for row in lab.database.episodes.find()}) == 2


def test_what_any_of_them_wrote_is_recalled_into_a_prompt_and_not_reflected_on(open_lab: Callable[..., Lab]) -> None:
    engine = ScriptedEngine({"look": 0.0}, answers=["Open some door before time is up."])
    lab = open_lab(engine=engine, recall_text=1)
    arm = lab.arm("base + memory").with_(recall=RecallConfig(text=1, advice=False))
    for seed in (0, 1):
        lab.run("toy/doors", seeds=[seed], trials=1, arm=arm, reflectors=["confidence"])
    first, second = (lab.database.episodes.get(row.id) for row in lab.database.episodes.find())
    assert (first.hints, second.hints) == ("", "- Open some door before time is up.")
    asked = [prompt for prompt in engine.prompts if second.steps[0].observation in prompt]
    assert asked and "Open some door" not in asked[0]


def test_the_critic_is_a_model_of_the_settings(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    lab = open_lab(critic=str(tiny_model))
    loaded: list[str] = []
    monkeypatch.setattr(lab, "_load", lambda name: loaded.append(name) or ScriptedEngine({}))
    assert lab.critic is lab.critic
    assert loaded == [str(tiny_model)]
    assert open_lab("other").critic is None


def test_a_run_takes_reflectors_from_the_command_line(tmp_path: Path) -> None:
    def run(*more: str) -> Any:
        arguments = ["run", "toy/doors", "--seeds", "0", "--arm", "random", "--lab", str(tmp_path / "lab"), *more]
        return CliRunner().invoke(app, arguments)

    assert run("--reflectors", "grounded, hindsight").exit_code == 0
    refused = run("--reflectors", "grounded,hindsigt")
    assert refused.exit_code == 2
    assert "did you mean `hindsight`?" in refused.stderr
