from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import environments
from agentlab.agent.tasks import make_tasks
from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import BadConfig, RunFailed
from agentlab.experiments import collection
from agentlab.experiments.collection import collect_model, collect_random, explorer, lasting
from agentlab.lab import Lab
from agentlab.trajectories import refinement
from agentlab.trajectories.advice import AdviceBook
from environments import EnvironmentDied
from memory.records import Advice
from memory.store import EpisodeFilter, Filter

TASKS = make_tasks("toy/doors", "train", range(4))


def lived(lab: Lab) -> list[dict[str, Any]]:
    """Everything in the lab but what a clock says."""
    rows = sorted(row.id for row in lab.database.episodes.find())
    episodes = [found.model_dump(exclude={"started_at", "seconds"}) for found in lab.database.episodes.load(rows)]
    kept = sorted(lab.database.reflections.find(), key=lambda found: found.id)
    return episodes + [found.model_dump(exclude={"created_at", "updated_at"}) for found in kept]


def test_random_exploration_keeps_the_success_its_refined_form_and_what_both_teach(
    open_lab: Callable[..., Lab], told: Any
) -> None:
    lab = open_lab(progress=told)
    assert collect_random(lab, "r", TASKS, trials=200, seed=0) == 4
    assert told.stages["exploring at random"] == (4, 4)
    won = [row for row in lab.database.episodes.find(EpisodeFilter(status="won")) if row.minimised_from is None]
    refined = [row for row in lab.database.episodes.find() if row.minimised_from is not None]
    assert len(won) == 4
    assert {row.minimised_from for row in refined} <= {row.id for row in won}
    kept = lab.database.reflections.find()
    assert sum(found.kind == "exemplar" for found in kept) == 4
    assert len([found for found in kept if found.advice]) == 4, "what all trials showed is told once for each task"
    assert {found.kind for found in kept} == {"grounded", "exemplar"}
    assert all(
        "> take coin" in found.text for found in lab.database.reflections.find(Filter(kinds=["exemplar"], status=None))
    )


def test_a_task_that_is_not_won_still_teaches(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    tasks = make_tasks("toy/doors?colours=6,rooms=6", "train", range(2))
    assert collect_random(lab, "r", tasks, trials=2, seed=0) == 0
    assert [found.kind for found in lab.database.reflections.find()] == ["grounded", "grounded"]


def test_what_lasts_are_gains_losses_and_penalties() -> None:
    facts = [
        Advice(state="s", action="a", visits=5),
        Advice(state="s", action="b", value=0.1),
        Advice(state="s", action="c", lost=1),
        Advice(state="s", action="d", negative=1),
    ]
    assert [fact.action for fact in lasting(AdviceBook(facts))] == ["b", "c", "d"]


def test_done_again_it_plays_nothing_and_leaves_everything_as_it_is(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    collect_random(lab, "r", TASKS, trials=200, seed=0)
    before = lived(lab)
    monkeypatch.setattr(environments, "make", None)
    assert collect_random(lab, "r", TASKS, trials=200, seed=0) == 4
    assert lived(lab) == before


def test_cut_off_between_two_tasks_it_ends_as_if_unbroken(open_lab: Callable[..., Lab]) -> None:
    whole, cut = open_lab("whole"), open_lab("cut")
    collect_random(whole, "r", TASKS, trials=200, seed=0)
    collect_random(cut, "r", TASKS[:2], trials=200, seed=0)
    collect_random(cut, "r", TASKS, trials=200, seed=0)
    assert lived(cut) == lived(whole)


def test_an_environment_that_dies_costs_its_task_only(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, random_exploration = open_lab(), collection.random_exploration

    def dying(env: Any, task: Any, **rest: Any) -> Any:
        if task.seed == 1:
            raise EnvironmentDied("The JVM died.")
        return random_exploration(env, task, **rest)

    monkeypatch.setattr(collection, "random_exploration", dying)
    assert collect_random(lab, "r", TASKS, trials=200, seed=0) == 3
    assert lab.database.journal.get("collect|r|random", TASKS[1].id)["error"] == "The JVM died."  # type: ignore[index]


def test_the_model_explores_and_its_successes_are_refined(
    open_lab: Callable[..., Lab], note_reader: ScriptedEngine, told: Any
) -> None:
    lab = open_lab(
        engine=ScriptedEngine(lambda text, command: 3 * Model(note_reader).score(_said(text), [command]).logprobs[0]),
        progress=told,
    )
    results = collect_model(lab, "r", TASKS, adapter=None, trials=3, temperature=1.0, seed=0)
    assert [result.task for result in results] == TASKS
    assert all(result.won_within(3) for result in results)
    assert told.finished == ["exploring with the model"]
    assert {row.arm for row in lab.database.episodes.find()} == {"explorer"}
    assert len(lab.database.reflections.find(Filter(kinds=["exemplar"], status=None))) == 4
    before = lived(lab)
    assert collect_model(lab, "r", TASKS, adapter=None, trials=3, temperature=1.0, seed=0) == results
    assert lived(lab) == before


def _said(text: str) -> Any:
    class Said:
        pass

    said = Said()
    said.text = text  # type: ignore[attr-defined]
    return said


def test_a_success_that_cannot_be_replayed_is_kept_as_it_was_played(
    open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> Any:
        raise EnvironmentDied("The JVM died.")

    monkeypatch.setattr(refinement, "refine", dying)
    lab = open_lab()
    collect_model(lab, "r", TASKS[:1], adapter=None, trials=9, temperature=0.1, seed=0)
    (exemplar,) = lab.database.reflections.find(Filter(kinds=["exemplar"], status=None))
    assert "> read note" in exemplar.text
    assert all(row.minimised_from is None for row in lab.database.episodes.find())


def test_an_explorer_samples_from_the_first_trial_on() -> None:
    arm = explorer("ad-1", 0.7)
    assert arm.adapter == "ad-1"
    assert [arm.policy.temperature_at(trial) for trial in range(4)] == [0.7] * 4, "the temperature that was measured"
    assert arm.recall is not None and arm.recall.exemplars == 0


def test_where_the_engine_failed_in_every_game_nothing_is_collected_and_the_same_call_plays_again(
    open_lab: Callable[..., Lab], note_reader: ScriptedEngine
) -> None:
    def broken(text: str, command: str) -> float:
        raise ZeroDivisionError(f"at {len(text)}")

    lab = open_lab()
    plays, note_reader.preferences = note_reader.preferences, broken
    settings: dict[str, Any] = {"adapter": None, "trials": 1, "temperature": 0.1, "seed": 0}
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        collect_model(lab, "r", TASKS, **settings)
    note_reader.preferences = plays
    assert all(result.won_within(1) for result in collect_model(lab, "r", TASKS, **settings))


def test_a_lab_explores_and_goes_on_where_it_stopped(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    won = lab.explore("toy/doors", seeds=range(3))
    assert won == 3
    episodes = lab.database.episodes.find(EpisodeFilter(split="train"))
    assert {row.task for row in episodes} == {f"toy/doors:train:{seed}" for seed in range(3)}
    assert lab.database.reflections.find(Filter(kinds=["exemplar"], status=None))
    assert lab.explore("toy/doors", seeds=range(3)) == 3
    assert len(lab.database.episodes.find(EpisodeFilter(split="train"))) == len(episodes)


def test_exploring_with_more_trials_tries_what_was_not_won(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab()
    few = lab.explore("toy/doors", seeds=range(10), trials=1, name="explore")
    more = lab.explore("toy/doors", seeds=range(10), trials=60, name="explore")
    assert few < more == 10 == open_lab("other").explore("toy/doors", seeds=range(10), trials=60, name="explore")
    with pytest.raises(BadConfig):
        lab.explore("toy/doors", trials=0)
