"""A round writes calls into the successes of games with tools, goes on where it stopped, and trains on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentlab.engines.scripted import ScriptedEngine
from agentlab.errors import LimitReached
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport, calling
from agentlab.rounds.calling import call, due, with_calls, writes_calls
from agentlab.rounds.collecting import collect
from agentlab.rounds.pool import pool
from agentlab.rounds.selecting import select
from agentlab.trajectories import environment_pool
from environments.tools import register_tool, unregister_tool
from memory.records import Usage
from tests.agentlab.oracle import Oracle, knowing, won
from tests.agentlab.rounds.conftest import Spelling
from trainers import BaseRef, training
from trainers.data import SelectionConfig

ENV = "toy/doors?tools=oracle"


@pytest.fixture(autouse=True)
def oracle() -> Iterator[None]:
    register_tool("oracle", Oracle)
    yield
    unregister_tool("oracle")


@pytest.fixture
def report() -> RoundReport:
    return RoundReport(id="round-1", number=1, config=RoundConfig(envs=[ENV], seeds=2, collect="none"))


def filled(lab: Lab, count: int = 3) -> Lab:
    for at in range(count):
        lab.database.episodes.put(won().model_copy(update={"id": f"ep-{at}", "seed": 3}))
    return lab


def test_only_rounds_of_games_with_tools_that_learn_from_successes_write_calls() -> None:
    assert writes_calls(RoundConfig(envs=["toy/doors", ENV]))
    assert not writes_calls(RoundConfig(envs=["toy/doors?colours=2"]))
    assert not writes_calls(RoundConfig(envs=[ENV], learn_from="recalled"))


def test_what_is_trained_on_has_the_calls_and_names_what_it_was(
    open_lab: Callable[..., Lab], report: RoundReport
) -> None:
    lab = filled(open_lab(engine=ScriptedEngine(knowing)))
    assert collect(lab, report) == "call" and call(lab, report) == "select"
    assert report.calls == {"successes": 3, "learned from": 3, "with calls": 3, "ask": 6}
    here = pool(lab, report)
    assert [item.episode.actions.count("ask about doors") for item in here.items] == [2, 2, 2]
    assert sorted(here.origin(item.episode)[0] for item in here.items) == ["ep-0", "ep-1", "ep-2"]
    assert {row.id for row in lab.database.episodes.find()} == {"ep-0", "ep-1", "ep-2"}, "it is no success of its own"


def test_the_report_says_which_calls_stand_in_what_is_trained_on_with_examples(
    open_lab: Callable[..., Lab], report: RoundReport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Lab, "model_folder", tmp_path)
    monkeypatch.setattr(training, "reference", lambda *_: BaseRef(name="b", fingerprint="f", path=""))
    lab = filled(open_lab(engine=Spelling(knowing)))
    call(lab, report)
    assert select(lab, report) == "train" and report.selected == {ENV: 1}, "the others are the same"
    (oracle,) = report.tools
    assert (oracle.tool, oracle.env, oracle.calls, oracle.episodes) == ("oracle", ENV, 2, 1)
    assert oracle.gain == pytest.approx(1.9)
    first, second = oracle.examples
    origin = lab.database.episodes.get(first.episode)
    assert (first.step, first.seed, first.call) == (0, 3, "ask about doors") and first.action == origin.actions[0]
    assert first.seen == origin.steps[0].observation
    assert first.answer == f"the {first.action.removeprefix('open ')} is safe."
    assert (second.step, second.action) == (2, origin.actions[1])
    again = RoundReport.model_validate(report.model_dump(mode="json"))
    assert again.tools == report.tools
    assert "tools" not in RoundReport(id="round-2", number=2, config=report.config).model_dump()


def test_what_no_call_explains_is_left_out_and_counted(open_lab: Callable[..., Lab], report: RoundReport) -> None:
    lab = filled(open_lab(engine=ScriptedEngine(lambda text, command: -2.0)))
    call(lab, report)
    here = pool(lab, report)
    assert not here.items and sum(here.left_out.values()) == 3
    assert report.calls == {"successes": 3}


def test_it_goes_on_where_it_stopped(
    open_lab: Callable[..., Lab], report: RoundReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Failing(ScriptedEngine):
        def score(self, requests):  # type: ignore[no-untyped-def]
            asked.append(len(requests))
            if len(asked) == 12:
                raise KeyboardInterrupt
            return super().score(requests)

    monkeypatch.setattr(calling, "STORED", 1)
    monkeypatch.setattr("agentlab.search.calls.AT_ONCE", 1)
    lab = filled(open_lab(engine=Failing(knowing)))
    with pytest.raises(KeyboardInterrupt):
        call(lab, report)
    done = with_calls(lab, report)
    assert 0 < len(done) < 3
    call(lab, report)
    assert {**with_calls(lab, report), **done} == with_calls(lab, report) and len(with_calls(lab, report)) == 3
    before = len(asked)
    call(lab, report)
    assert len(asked) == before, "nothing is asked twice"


def test_a_success_whose_environment_fails_is_left_out_until_the_round_goes_on(
    open_lab: Callable[..., Lab], report: RoundReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, made = filled(open_lab(engine=ScriptedEngine(knowing))), environment_pool.make

    def broken(*_: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(environment_pool.EnvironmentPool.__init__, "__defaults__", (broken,))
    assert call(lab, report) == "select"
    assert report.calls == {"successes": 3} and not pool(lab, report).items
    monkeypatch.setattr(environment_pool.EnvironmentPool.__init__, "__defaults__", (made,))
    assert call(lab, report) == "select" and report.calls["learned from"] == 3


def test_what_scoring_calls_takes_counts_against_the_limit_of_the_command(
    open_lab: Callable[..., Lab], report: RoundReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Costly(ScriptedEngine):
        def score(self, requests):  # type: ignore[no-untyped-def]
            return [replace(scores, usage=Usage(input_tokens=10)) for scores in super().score(requests)]

    monkeypatch.setattr("agentlab.search.calls.AT_ONCE", 1)
    lab = filled(open_lab(engine=Costly(knowing)))
    lab.limit(tokens=15)
    with pytest.raises(LimitReached):
        call(lab, report)
    done = len(with_calls(lab, report))
    assert 0 < done < 3
    lab.limit(tokens=10**6)
    call(lab, report)
    assert len(with_calls(lab, report)) == 3


def test_so_many_are_given_calls_as_the_selection_has_room_for_those_of_early_trials_first(
    open_lab: Callable[..., Lab], report: RoundReport
) -> None:
    lab = open_lab(engine=ScriptedEngine(knowing))
    for at in range(8):
        lab.database.episodes.put(won().model_copy(update={"id": f"ep-{at}", "seed": 3, "trial": 9 - at}))
    few = report.model_copy(
        update={"config": report.config.model_copy(update={"selection": SelectionConfig(cap_per_env=2)})}
    )
    call(lab, few)
    assert set(with_calls(lab, few)) == {"ep-7", "ep-6", "ep-5"}, "2 and a half"
    here = pool(lab, few)
    assert len(here.items) == 3 and here.left_out["no calls written"] == 5


def test_which_successes_are_given_calls_does_not_depend_on_where_it_was_interrupted(
    open_lab: Callable[..., Lab], report: RoundReport
) -> None:
    lab = filled(open_lab(), 12)
    rows = lab.database.episodes.find()
    config = report.config.model_copy(update={"selection": SelectionConfig(cap_per_env=4, cap_per_task=12)})
    fails = {"ep-1", "ep-10", "ep-3"}

    def gone_through(stops: int) -> list[str]:
        done: dict[str, dict[str, object]] = {}
        while todo := due(rows, done, config):
            for id in todo[:stops]:
                done[id] = {"episode": None if id in fails else {}}
        return sorted(done)

    assert gone_through(1) == gone_through(2) == gone_through(100)
    assert 5 <= len(gone_through(1)) < 12


def test_successes_of_one_task_do_not_take_the_room_of_other_tasks(
    open_lab: Callable[..., Lab], report: RoundReport
) -> None:
    lab = open_lab()
    for at in range(12):
        lab.database.episodes.put(won().model_copy(update={"id": f"ep-{at:02}", "seed": max(at - 7, 0)}))
    rows, done = lab.database.episodes.find(), dict[str, dict[str, object]]()
    config = report.config.model_copy(update={"selection": SelectionConfig(cap_per_env=4, cap_per_task=1)})
    while todo := due(rows, done, config):
        done |= {id: {"episode": {}} for id in todo}
    assert {f"ep-{at:02}" for at in range(8, 12)} <= set(done), "four other tasks"
    assert len(done) < 12, "and not everything of the first"
