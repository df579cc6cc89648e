"""The router: which skills a task calls for, and that just these play it, never the base in their place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.router import Router, centroid, format_weights
from agentlab.agent.router_config import RouterConfig, parse
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import AgentLabError, BadConfig
from agentlab.lab import Lab
from memory.store import EpisodeFilter
from trainers.adapters import deltas
from trainers.errors import CanaryFailed, UnknownAdapter, WrongBase
from trainers.training.canary import Canary


@pytest.mark.parametrize(
    ("cosines", "settings", "meant"),
    [
        # exp(0), exp(-4), exp(-5): the others stay below the bound.
        ((0.9, 0.5, 0.4), {}, {"a": 1.0}),
        # 1, 0.449, 0.368 of 1.817, so 0.550, 0.247, 0.202; the tenth that is over goes to the largest remainder.
        ((0.9, 0.5, 0.4), {"temperature": 0.5}, {"a": 0.6, "b": 0.2, "c": 0.2}),
        # Without the third 0.690 and 0.310 are left.
        ((0.9, 0.5, 0.4), {"temperature": 0.5, "bound": 0.22}, {"a": 0.7, "b": 0.3}),
        ((0.4, 0.5, 0.9), {"temperature": 0.5, "bound": 0.22, "steps": 2}, {"b": 0.5, "c": 0.5}),
        # The largest are never dropped.
        ((0.5, 0.5, 0.5), {"bound": 0.9}, {"a": 0.4, "b": 0.3, "c": 0.3}),
        ((0.5, 0.6, 0.5), {"bound": 1.0, "temperature": 2.0}, {"b": 1.0}),
    ],
)
def test_weights_are_a_softmax_over_cosines_without_what_is_small(
    cosines: tuple[float, ...], settings: dict[str, Any], meant: dict[str, float]
) -> None:
    found = RouterConfig(("a", "b", "c"), **settings).weights(cosines)
    assert found == meant
    assert sum(found.values()) == pytest.approx(1.0)


def test_weights_in_words_are_what_a_record_says() -> None:
    assert format_weights({"a": 0.7, "b": 0.3}) == "0.7*a + 0.3*b"
    assert format_weights({"b": 1.0}) == "b"


def test_a_router_is_named_by_its_skills_and_settings() -> None:
    assert parse("skills(A, B)", str.lower) == RouterConfig(("a", "b"))
    found = parse("skills(a,b,temperature=0.2, bound=0,steps=4)", str.lower)
    assert found == RouterConfig(("a", "b"), temperature=0.2, bound=0.0, steps=4)
    assert found.name == "skills(a,b)"


@pytest.mark.parametrize(
    "text",
    [
        "skills", "skills()", "skills(a)", "skills(a,a)", "skills(a,)", "skills(a,b", "skills(a,b,warmth=1)",
        "skills(a,b,steps=2.5)", "skills(a,b,steps=0)", "skills(a,b,temperature=0)", "skills(a,b,bound=2)",
    ],
)  # fmt: skip
def test_what_names_no_skills_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadConfig) as refused:
        parse(text, str)
    assert "\n" not in str(refused.value)


# -- in a lab ----------------------------------------------------------------------------------------------------------

DOORS, SOCKS = (
    "Find the coin and take it. In each room only one door is safe.",
    "Sort the socks by colour into the box.",
)


@pytest.fixture
def lab(open_lab: Callable[..., Lab], tiny_model: Path, lived: Any, step: Any) -> Lab:
    """A lab of the tiny model, scripted, with episodes of two kinds to be trained on."""
    made = open_lab(model=str(tiny_model))
    for id, goal, seed in (("d0", DOORS, 0), ("d1", DOORS, 1), ("s0", SOCKS, 2), ("s1", SOCKS, 2)):
        made.database.episodes.put(lived(step(0, "look", observation="You look."), id=id, goal=goal, seed=seed))
    return made


@pytest.fixture
def two(lab: Lab, add_skill: Callable[..., str]) -> tuple[str, str]:
    """The skills for doors and for socks."""
    return add_skill(lab, "d0", "d1", seed=1), add_skill(lab, "s0", "s1", seed=2)


def test_a_skill_lies_where_the_tasks_that_it_was_trained_on_lie(lab: Lab, add_skill: Callable[..., str]) -> None:
    both = add_skill(lab, "d0", "s0", "s1", seed=3)
    embedded = lab.memory.embedder.embed([f"{DOORS}\nYou look.", f"{SOCKS}\nYou look."])
    mean = embedded.sum(axis=0)
    # The two episodes of one task count once.
    assert np.allclose(centroid(lab, both), mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(AgentLabError, match="has no episode that"):
        centroid(lab, add_skill(lab, "elsewhere", seed=4))


def test_each_task_is_played_by_the_skill_that_it_calls_for(
    lab: Lab, two: tuple[str, str], note_reader: ScriptedEngine
) -> None:
    doors, socks = two
    note_reader.by_adapter = {doors: note_reader.preferences, socks: {"look": 0.0}, "": {"look": 0.0}}
    results = lab.run("toy/doors", seeds=range(3), trials=1, arm=f"skills({doors}, {socks})")
    assert all(result.won_within(1) for result in results)
    rows = lab.database.episodes.find(EpisodeFilter(arm=f"skills({doors},{socks})"))
    played = [row for row in rows if row.minimised_from is None]
    assert [row.adapter for row in played] == [doors] * 3
    lab.run("toy/doors", seeds=[0], trials=1, arm=f"skills({doors},{socks}) + memory")
    rows = lab.database.episodes.find(EpisodeFilter(arm=f"skills({doors},{socks}) + memory"))
    (row,) = [row for row in rows if row.minimised_from is None]
    assert row.adapter == doors and row.won


def test_what_a_run_of_skills_teaches_about_advice_is_not_said_of_the_base(lab: Lab, two: tuple[str, str]) -> None:
    from agentlab.agent.strength import scope

    arm = lab.arm(f"skills({two[0]},{two[1]}) + memory")
    lab.run("toy/doors", seeds=[7], trials=1, arm=arm)
    assert len(lab.database.journal.items(scope("toy/doors", arm.weights))) == 1
    assert lab.database.journal.items(scope("toy/doors", None)) == {}


def test_arms_of_skills_are_known_by_their_skills_and_settings(lab: Lab, two: tuple[str, str]) -> None:
    plain, warm = (lab.arm(f"skills({two[0]},{two[1]}{rest})") for rest in ("", ",temperature=1"))
    assert plain.weights == plain.name == f"skills({two[0]},{two[1]})"
    assert plain.identity != warm.identity != Arm("base").identity
    memory = lab.arm(f"skills({two[0][:12]},{two[1][:12]})+memory")
    assert memory.recall == RecallConfig(transfer=0.0) and memory.router == plain.router
    with pytest.raises(UnknownAdapter):
        lab.arm(f"skills({two[0]},zzz)")


@pytest.mark.parametrize("name", ["society", "base", "adapter", "steering-1@0.1"])
def test_what_is_no_adapter_is_no_skill_and_other_arms_are_not_offered(
    lab: Lab, two: tuple[str, str], name: str
) -> None:
    with pytest.raises(UnknownAdapter, match=rf"composes adapters alone, and .*'{name}'") as refused:
        lab.arm(f"skills({two[0]},{name})")
    assert "there is no arm" not in str(refused.value).lower() and "\n" not in str(refused.value)


def test_skills_of_another_base_are_refused(lab: Lab, two: tuple[str, str]) -> None:
    strange = lab.adapters.get(two[1]).model_copy(update={"fingerprint": "0" * 64})
    lab.adapters.records.put(strange)
    with pytest.raises(WrongBase):
        lab.run("toy/doors", seeds=[0], arm=f"skills({two[0]},{two[1]})")


# -- with weights ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(lab: Lab, two: tuple[str, str], tiny_model: Path) -> Any:
    """The same lab with a transformers engine."""
    lab._engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    return lab


def test_an_episode_is_played_with_the_weighted_sum_of_its_skills(real: Lab, two: tuple[str, str]) -> None:
    from trainers.training.weights import load_model

    arm = real.arm(f"skills({two[0]},{two[1]},temperature=1000,steps=2)")
    real.run("toy/doors?rooms=1,step_limit=2", seeds=[0], trials=1, arm=arm, name="routed")
    (row,) = real.database.episodes.find(EpisodeFilter(run="routed"))
    assert row.adapter == f"0.5*{two[0]} + 0.5*{two[1]}"
    played = real.database.episodes.get(row.id)
    model = load_model(real.model_folder)
    for id in two:
        for name, part in deltas.read(real.adapters.folder_of(id)).items():
            model.get_submodule(name).weight += 0.5 * (part.b @ part.a)
    scored = real.engine._logprob(model, played.token_ids, played.action_spans)  # type: ignore[attr-defined]
    assert sum(step.logprob or 0.0 for step in played.steps) == pytest.approx(scored, abs=1e-3)
    assert scored != pytest.approx(real.engine.logprob(played.token_ids, played.action_spans), abs=0.05)  # type: ignore[attr-defined]


def test_episodes_at_the_same_time_keep_their_own_skills(real: Lab, two: tuple[str, str]) -> None:
    commands = ["look", "read note", "take coin"]

    def conversation(model: Model) -> Any:
        started = model.conversation(DOORS)
        started.observe("You are in the attic.")
        return started

    alone = []
    for id in two:
        own = real.model(id)
        alone.append(own.score(conversation(own), commands).logprobs)
    router = Router.of(real, RouterConfig(two), real.model())
    views = [router.model(DOORS, "You look."), router.model(SOCKS, "You look.")]
    assert [view.adapter_id for view in views] == list(two)
    talks = [conversation(view) for view in views]
    for _ in range(2):
        scores = [view.score(talk, commands).logprobs for view, talk in zip(views, talks, strict=True)]
        assert scores == [pytest.approx(meant, abs=1e-4) for meant in alone]
    assert alone[0] != pytest.approx(alone[1], abs=1e-2)


def test_a_composition_is_made_once_and_a_damaged_one_again(
    real: Lab, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.adapters import skills

    made: list[Path] = []
    compose = skills.compose
    monkeypatch.setattr(skills, "compose", lambda *given: made.append(given[2]) or compose(*given))
    router = Router.of(real, RouterConfig(two, temperature=1000.0), real.model())
    names = {router.model(goal, "You look.").adapter_id for goal in (DOORS, SOCKS)}
    assert names == {f"0.5*{two[0]} + 0.5*{two[1]}"} and len(made) == 1
    weights = made[0] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert router.model(DOORS, "You look.").adapter_id in names
    assert len(made) == 2


def test_the_base_never_stands_in_for_a_composition(real: Lab, two: tuple[str, str]) -> None:
    router = Router.of(real, RouterConfig(two, temperature=1000.0), real.model())
    router.model(DOORS, "You look.")
    (folder,) = (real.folder / "composed").iterdir()
    canary = Canary.load(folder / "canary.json")
    tensors = {
        f"{deltas.PREFIX}{name}.lora_{side}.weight": torch.zeros_like(part)
        for name, factors in deltas.read(folder).items()
        for side, part in zip("AB", factors, strict=True)
    }
    from safetensors.torch import save_file

    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    assert canary.discriminates
    fresh = TransformersEngine(real.model_folder, dtype="float32", device="cpu")
    router = Router.of(real, RouterConfig(two, temperature=1000.0), Model(fresh))
    with pytest.raises(CanaryFailed, match="the base model answers"):
        router.model(DOORS, "You look.")
    shutil.rmtree(folder)
