"""Forgetting is read off stored plays: each game once, first trials, without memory, paired with the best before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentlab.agent.arms import Arm
from agentlab.agent.policy import Policy
from agentlab.engines.scripted import ScriptedEngine
from agentlab.experiments.forgetting import RUN, forgetting, measure
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, RoundReport
from memory.records import Episode
from memory.store import EpisodeFilter

ONE, TWO = "toy/doors?rooms=1,step_limit=6", "toy/doors?step_limit=6"


def first_room_only(transcript: str, command: str, plays: Any) -> float:
    return -99.0 if "> open" in transcript and command.startswith("open ") else float(plays(transcript, command))


@pytest.fixture
def lab(open_lab: Callable[..., Lab], tiny_model: Path, lived: Callable[..., Episode], step: Any) -> Lab:
    made = open_lab(model=str(tiny_model))
    for id, env in (("one", ONE), ("two", TWO)):
        made.database.episodes.put(lived(step(0, "look"), id=id, env=env))
    return made


@pytest.fixture
def two(lab: Lab, add_skill: Callable[..., str], note_reader: ScriptedEngine) -> tuple[str, str]:
    """An adapter that wins everything, and one after it that forgot the second room; the base wins nothing."""
    able, newer = add_skill(lab, "two", seed=1, round="round-1"), add_skill(lab, "one", seed=2, round="round-2")
    plays: Any = note_reader.preferences
    note_reader.by_adapter = {
        "": {"look": 0.0},
        able: plays,
        newer: lambda transcript, command: first_room_only(transcript, command, plays),
    }
    return able, newer


def test_arms_that_are_more_than_the_weights_say_nothing_of_them(lab: Lab, two: tuple[str, str]) -> None:
    able, _ = two
    lab.evaluate(ONE, split="dev", seeds=range(4), arms=[Arm("hot", adapter=able, policy=Policy(temperature=9.0))])
    lab.evaluate(ONE, split="dev", seeds=range(4), arms=[Arm("turns", adapter=able)])
    assert forgetting(lab).table.rows == []
    lab.evaluate(ONE, split="dev", seeds=range(4), arms=[able])
    assert forgetting(lab).table.row(able).cells[ONE].wins == 4


def test_who_once_ranks_and_once_writes_under_one_name_is_told_apart(lab: Lab, note_reader: ScriptedEngine) -> None:
    note_reader.replies = lambda request: "> look"
    ranked = lab.evaluate(ONE, split="dev", seeds=range(4), arms=["base"], name="mine")
    before = forgetting(lab).table
    ranking, lab.config = lab.config, lab.config.model_copy(update={"actor": "write"})
    lab.evaluate(ONE, split="dev", seeds=range(4), arms=["base"], name="mine")
    assert forgetting(lab).table.row("base").cells[ONE].wins == 0
    lab.config = ranking
    assert forgetting(lab).table == before and ranked.row("base").cells[ONE].wins == 4


def test_nothing_played_is_nothing_forgotten(lab: Lab) -> None:
    found = forgetting(lab)
    assert (found.table.rows, found.losses, found.adapter) == ([], [], "base")


def test_a_family_that_the_present_adapter_lost_is_named(lab: Lab, two: tuple[str, str]) -> None:
    able, newer = two
    lab.evaluate([ONE, TWO], split="dev", seeds=range(8), arms=["base", able, newer], name="mine")
    lab.adapters.promote(newer, force=True)
    found = forgetting(lab)
    assert [row.arm for row in found.table.rows] == ["base", able, newer]
    assert found.rounds == {able: "round-1", newer: "round-2"}
    assert {env: cell.wins for env, cell in found.table.row(newer).cells.items()} == {ONE: 8, TWO: 0, "all": 8}
    assert found.table.row(able).cells[TWO].n == 8 and found.table.envs == sorted([ONE, TWO])
    assert found.adapter == newer
    assert [(loss.env, loss.best, loss.paired.difference, loss.forgotten) for loss in found.losses] == [
        (TWO, able, -1.0, True),
        (ONE, able, 0.0, False),
    ]
    assert forgetting(lab, split="test").table.rows == []


def test_the_gates_of_rounds_count_and_a_game_played_twice_counts_once(lab: Lab, two: tuple[str, str]) -> None:
    able, newer = two
    report = RoundReport(id="round-1", number=1, config=RoundConfig(envs=[TWO]), phase="done")
    lab.database.rounds.put(report.id, report.model_dump(mode="json"))
    lab.run(TWO, split="dev", seeds=range(4), trials=1, arm=able, name="round-1-gate")
    lab.evaluate(TWO, split="dev", seeds=range(6), arms=[able], name="mine")
    lab.run(TWO, split="dev", seeds=range(9), trials=1, arm=newer, name="a run that is no evaluation")
    found = forgetting(lab)
    assert [row.arm for row in found.table.rows] == [able]
    assert found.table.row(able).cells[TWO].n == 6
    # What serves was not measured: the last that was is looked at.
    assert found.adapter == able and found.losses == []


def test_memory_chance_and_later_trials_say_nothing_about_the_weights(lab: Lab, two: tuple[str, str]) -> None:
    arms = ["random", "base", "base + memory"]
    lab.evaluate(ONE, split="dev", seeds=range(3), arms=arms, trials=2, name="mine")
    found = forgetting(lab)
    assert [(row.arm, row.cells[ONE].wins, row.cells[ONE].n) for row in found.table.rows] == [("base", 0, 3)]


def test_measuring_plays_all_families_and_only_what_is_missing(lab: Lab, two: tuple[str, str]) -> None:
    able, newer = two
    lab.adapters.promote(able, force=True)
    found = measure(lab, seeds=range(3))
    assert [row.arm for row in found.table.rows] == ["base", able]
    assert {env: cell.n for env, cell in found.table.row(able).cells.items()} == {ONE: 3, TWO: 3, "all": 6}
    before = {row.id for row in lab.database.episodes.find(EpisodeFilter(run=RUN))}
    lab.adapters.promote(newer, force=True)
    again = measure(lab, seeds=range(3))
    fresh = {row.adapter for row in lab.database.episodes.find(EpisodeFilter(run=RUN)) if row.id not in before}
    assert fresh == {newer}
    assert again.adapter == newer and again.losses[0].env == TWO
    assert measure(lab, seeds=range(3), adapters=["base"]).table.rows == again.table.rows
