from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import environments
from agentlab.agent.result import count_spent
from agentlab.agent.tasks import make_tasks
from agentlab.engines.base import Scores
from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import BadConfig, LimitReached, RunFailed
from agentlab.lab import Lab
from agentlab.search import tasks as module
from agentlab.search.config import SearchConfig
from agentlab.search.pairs import preferences
from agentlab.search.tasks import revise_tasks, search_tasks, tree_of
from agentlab.trajectories import refinement
from agentlab.trajectories.budget import Budget
from environments import Task, TextEnv
from memory.records import Usage
from memory.store import EpisodeFilter
from trainers.data.selection import SelectionConfig, survey

OpenLab = Callable[..., Lab]
TASKS = make_tasks("toy/doors", "train", range(4))


def lived(lab: Lab) -> list[dict[str, Any]]:
    """Everything in the lab but what a clock says."""
    rows = sorted(row.id for row in lab.database.episodes.find())
    episodes = [found.model_dump(exclude={"started_at", "seconds"}) for found in lab.database.episodes.load(rows)]
    kept = sorted(lab.database.reflections.find(), key=lambda found: found.id)
    return episodes + [found.model_dump(exclude={"created_at", "updated_at"}) for found in kept]


def test_successes_are_kept_with_their_refined_forms_and_what_they_teach(open_lab: OpenLab, told: Any) -> None:
    lab = open_lab(progress=told)
    results = search_tasks(lab, "r", TASKS)
    assert told.stages["searching (mcts)"] == (4, 4)
    assert [result.task for result in results] == [task.id for task in TASKS]
    for result, task in zip(results, TASKS, strict=True):
        rows = lab.database.episodes.find(EpisodeFilter(run="r", task=task.id))
        played = [row for row in rows if row.minimised_from is None]
        assert len(played) == result.episodes and all(row.split == "train" for row in rows)
        assert result.won in {row.id for row in played if row.won}
        assert {row.minimised_from for row in rows} <= {None, result.won}
        assert result.cost.steps >= sum(row.steps for row in played)
    kept = lab.database.reflections.find()
    assert sum(found.kind == "exemplar" for found in kept) == 4
    assert len([found for found in kept if found.advice]) == 4, "what all trials showed is told once for each task"
    assert {found.kind for found in kept} == {"grounded", "exemplar"}


def test_what_is_found_can_be_selected_for_training(open_lab: OpenLab) -> None:
    lab = open_lab()
    search_tasks(lab, "r", TASKS)
    episodes = lab.database.episodes.load([row.id for row in lab.database.episodes.find()])
    chosen = survey(episodes, SelectionConfig(cap_per_task=1), 0).selected
    assert len(chosen) == 4 and all(item.episode.won for item in chosen)


def test_done_again_it_plays_nothing_and_leaves_everything_as_it_is(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    first, before = search_tasks(lab, "r", TASKS), lived(lab)
    monkeypatch.setattr(environments, "make", None)
    assert search_tasks(lab, "r", TASKS) == first
    assert lived(lab) == before


def test_killed_at_any_step_it_ends_as_if_unbroken(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_lab("whole")
    results = search_tasks(whole, "r", TASKS, config=SearchConfig(wins=2))
    total = sum(result.cost.steps for result in results)
    step = TextEnv.step
    for at in range(3, total, total // 4):
        left = at

        def killed(self: TextEnv, action: str) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return step(self, action)

        cut = open_lab(f"cut-{at}")
        monkeypatch.setattr(TextEnv, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            search_tasks(cut, "r", TASKS, config=SearchConfig(wins=2))
        monkeypatch.setattr(TextEnv, "step", step)
        assert search_tasks(cut, "r", TASKS, config=SearchConfig(wins=2)) == results
        assert lived(cut) == lived(whole)


def test_other_settings_are_another_search_of_the_same_run(open_lab: OpenLab) -> None:
    lab = open_lab()
    first = search_tasks(lab, "r", TASKS[:1])
    for change in ({"seed": 1}, {"method": "best_of_n"}, {"budget": Budget(steps=7)}, {"config": SearchConfig(wins=2)}):
        assert search_tasks(lab, "r", TASKS[:1], **change) != first  # type: ignore[arg-type]


def test_nothing_is_learned_from_held_out_games(open_lab: OpenLab) -> None:
    lab, held_out = open_lab(), make_tasks("toy/doors", "test", range(1))
    for work in (search_tasks, revise_tasks):
        with pytest.raises(BadConfig, match="toy/doors:test:0 is not of the train fold"):
            work(lab, "r", [*TASKS, *held_out])  # type: ignore[operator]
    with pytest.raises(BadConfig):
        tree_of(lab, "r", held_out[0])
    assert lab.database.episodes.find() == []


def test_the_model_guides_where_it_is_asked_to(open_lab: OpenLab, note_reader: ScriptedEngine) -> None:
    lab = open_lab()
    results = search_tasks(lab, "r", TASKS, engine="model", config=SearchConfig(temperature=0.1))
    assert all(result.won and result.episodes == 1 and result.cost.calls == 5 for result in results)
    assert {row.engine for row in lab.database.episodes.find()} == {"scripted"}
    with pytest.raises(BadConfig, match="takes no adapter"):
        search_tasks(lab, "r", TASKS, adapter="ad-1")


def test_the_model_calls_of_a_search_are_told_within_that_of_their_task(open_lab: OpenLab, traced: Any) -> None:
    search_tasks(open_lab(), "r", TASKS[:2], engine="model", budget=Budget(steps=5))
    assert {traced.path(span) for span in traced.spans} == {"search", "search > text_completion scripted"}
    assert [span.attributes["agentlab.task"] for span in traced.named("search")] == [task.id for task in TASKS[:2]]


def test_a_search_that_ends_early_costs_its_task_only(
    open_lab: OpenLab, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, search_task = open_lab(progress=told), module.search_task

    def dying(env: Any, task: Task, **rest: Any) -> Any:
        if task.seed != 1:
            return search_task(env, task, **rest)

        class Dying(type(env)):  # type: ignore[misc]
            def act(self, action: str) -> Any:
                raise RuntimeError("The JVM died.")

        return search_task(Dying(), task, **rest)

    monkeypatch.setattr(module, "search_task", dying)
    results = search_tasks(lab, "r", TASKS)
    assert [result.won is not None for result in results] == [True, False, True, True]
    assert "The JVM died." in str(results[1].error) and results[1].episodes == 0
    assert any(message.startswith("toy/doors:train:1: the search ended early.") for message in told.messages)


def test_a_success_that_cannot_be_refined_is_kept_as_it_was_found(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> Any:
        raise environments.EnvironmentDied("The JVM died.")

    monkeypatch.setattr(refinement, "refine", dying)
    lab = open_lab()
    (result,) = search_tasks(lab, "r", TASKS[:1])
    assert result.won and all(row.minimised_from is None for row in lab.database.episodes.find())


def test_trees_are_built_again_from_what_is_stored(open_lab: OpenLab) -> None:
    lab = open_lab()
    search_tasks(lab, "r", TASKS)
    for task in TASKS:
        tree = tree_of(lab, "r", task)
        assert {episode.id for episode in tree.episodes} == {
            row.id for row in lab.database.episodes.find(EpisodeFilter(run="r", task=task.id))
        }
        assert tree.root is not None and tree.root.to_win is not None
    assert any(preferences(tree_of(lab, "r", task)) for task in TASKS)
    assert tree_of(lab, "another", TASKS[0]).root is None


def test_revisions_of_a_run_win_in_the_environment_and_are_not_stored(open_lab: OpenLab) -> None:
    lab = open_lab()
    search_tasks(lab, "r", TASKS, config=SearchConfig(wins=3, transpositions=False))
    before = lived(lab)
    found, again = revise_tasks(lab, "r", TASKS), revise_tasks(lab, "r", TASKS)
    assert found and [(one.episode.id, one.step_weights) for one in found] == [
        (one.episode.id, one.step_weights) for one in again
    ]
    assert all(revision.episode.won and revision.step_weights[0] == 0.0 for revision in found)
    assert all(revision.step_weights[-1] == 1.0 for revision in found)
    assert lived(lab) == before


def test_revisions_end_with_their_budget(open_lab: OpenLab) -> None:
    lab = open_lab()
    search_tasks(lab, "r", TASKS, config=SearchConfig(wins=3, transpositions=False))
    assert revise_tasks(lab, "r", TASKS, budget=Budget(steps=2)) == []


def test_revisions_whose_game_has_changed_are_left_out_with_a_word(
    open_lab: OpenLab, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab(progress=told)
    search_tasks(lab, "r", TASKS, config=SearchConfig(wins=3, transpositions=False))
    monkeypatch.setattr("environments.toy.Doors._look", lambda self: "You see nothing.")
    assert revise_tasks(lab, "r", TASKS) == []
    assert any("no further revisions. A replay differs at the start" in message for message in told.messages)


def test_the_actor_may_judge_what_chance_played(open_lab: OpenLab) -> None:
    lab = open_lab()
    search_tasks(lab, "r", TASKS, config=SearchConfig(wins=3, transpositions=False))
    found = revise_tasks(lab, "r", TASKS, judge="actor")
    assert found and all(revision.episode.engine == "scripted" for revision in found)


@pytest.mark.parametrize(("count", "searched"), [(12, 10), (3, 3)])
def test_a_search_whose_engine_always_fails_is_stopped_and_the_same_call_searches_again(
    open_lab: OpenLab, note_reader: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, count: int, searched: int
) -> None:
    lab, tasks = open_lab(), make_tasks("toy/doors", "train", range(count))
    plays, note_reader.preferences = note_reader.preferences, broken
    tried, search_task = [0], module.search_task

    def counted(*given: Any, **rest: Any) -> Any:
        tried[0] += 1
        return search_task(*given, **rest)

    monkeypatch.setattr(module, "search_task", counted)
    for all_of_them in (searched, searched + count):
        with pytest.raises(RunFailed, match="ZeroDivisionError"):
            search_tasks(lab, "r", tasks, engine="model")
        assert tried[0] == all_of_them
    note_reader.preferences = plays
    assert all(result.won for result in search_tasks(lab, "r", tasks, engine="model"))


def broken(text: str, command: str) -> float:
    raise ZeroDivisionError(f"at {len(text)}")


def test_an_engine_that_fails_in_some_tasks_stops_no_search_that_is_called_again(
    open_lab: OpenLab, note_reader: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, tasks = open_lab(), make_tasks("toy/doors", "train", range(22))
    search_task, plays = module.search_task, note_reader.preferences

    def sometimes(env: Any, task: Task, **rest: Any) -> Any:
        note_reader.preferences = broken if task.seed % 2 else plays
        return search_task(env, task, **rest)

    monkeypatch.setattr(module, "search_task", sometimes)
    for _ in range(2):
        results = search_tasks(lab, "r", tasks, engine="model")
        assert [result.won is not None for result in results] == [True, False] * 11
        assert [result.error_kind for result in results] == [None, "engine"] * 11


def test_a_search_that_has_won_before_its_engine_failed_is_no_failure(
    open_lab: OpenLab, note_reader: ScriptedEngine
) -> None:
    lab, score, left = open_lab(), note_reader.score, [6]  # a win takes five

    def tires(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError("tired")
        return score(*given)

    note_reader.score = tires  # type: ignore[method-assign]
    (result,) = search_tasks(lab, "r", TASKS[:1], engine="model", config=SearchConfig(wins=50))
    assert result.won is not None and result.error_kind == "engine"


def test_what_a_search_takes_counts_and_none_is_begun_beyond_the_limit(open_lab: Callable[..., Lab]) -> None:
    class Counting(ScriptedEngine):
        def score(self, requests: Any) -> list[Scores]:
            return [replace(one, usage=Usage(input_tokens=10)) for one in super().score(requests)]

    lab = open_lab(engine=Counting({"read note": 0.0}))
    tasks = make_tasks("toy/doors", "train", range(3))
    lab.limit(tokens=15)
    with pytest.raises(LimitReached):
        search_tasks(lab, "s", tasks, engine="model", budget=Budget(steps=30))
    assert lab.spending.spent.input_tokens >= 15
    stored = [lab.database.episodes.get(row.id).usage for row in lab.database.episodes.find()]
    assert sum(stored, Usage()) == lab.spending.spent
    first = lab.database.episodes.count()
    with pytest.raises(LimitReached):
        search_tasks(lab, "s", tasks, engine="model", budget=Budget(steps=30))
    assert lab.database.episodes.count() == first > 0
    lab.limit(tokens=15)  # as another command would
    count_spent(lab, ["s"])
    with pytest.raises(LimitReached):
        search_tasks(lab, "s", tasks, engine="model", budget=Budget(steps=30))
    lab.limit()
    assert len(search_tasks(lab, "s", tasks, engine="model", budget=Budget(steps=30))) == 3
