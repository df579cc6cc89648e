from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.engines.model import Model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.experiments.consolidation import consolidation
from agentlab.lab import Lab
from memory.store import Filter


class Loser(ScriptedEngine):
    """Opens the first door that there is, and writes what it is told to."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__(lambda transcript, command: float(command.startswith("open")), answers=answers)


def lose_and_win(lab: Lab, winner: ScriptedEngine) -> None:
    """One game, lost by the lab's engine and then won by another."""
    lab.run("toy/doors", seeds=[1], trials=1, arm="base + memory", name="lost")
    engine, lab._engine = lab._engine, winner
    lab.run("toy/doors", seeds=[1], trials=1, arm="base + memory", name="won")
    lab._engine = engine
    played = [episode for episode in lab.database.episodes.find() if episode.minimised_from is None]
    assert [episode.status for episode in played] == ["lost", "won"]


def consolidated(lab: Lab) -> int:
    return int(lab.database.settings.get("consolidated after episodes|", 0))


def test_a_run_consolidates_after_so_many_episodes(open_lab: Callable[..., Lab], told: Any) -> None:
    lab = open_lab(consolidate_every=6, progress=told)
    lab.run("toy/doors", seeds=range(4), trials=1, arm="base + memory")
    assert consolidated(lab) == 0
    lab.run("toy/doors", seeds=range(4, 8), trials=1, arm="base + memory")
    assert consolidated(lab) == 8
    assert len(lab.database.reflections.find(Filter(kinds=["summary"], status=None))) == 1
    assert any("The memory was consolidated" in message for message in told.messages)
    lab.run("toy/doors", seeds=range(4, 8), trials=1, arm="base + memory")
    assert consolidated(lab) == 8


def test_by_default_and_after_held_out_games_nothing_is_consolidated(open_lab: Callable[..., Lab]) -> None:
    lab = open_lab(consolidate_every=1)
    lab.run("toy/doors", split="test", seeds=range(2), trials=1, arm="base + memory")
    assert consolidated(lab) == 0
    other = open_lab("other")
    other.run("toy/doors", seeds=range(2), trials=1, arm="base + memory")
    assert consolidated(other) == 0


def test_the_lab_s_model_writes_if_it_is_asked_to(
    open_lab: Callable[..., Lab], note_reader: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab(engine=Loser(["ADD: Read the note before you open a door."]))
    lose_and_win(lab, note_reader)
    assert consolidation(lab).writer is None
    done = consolidation(lab, write=True).run(["rules"])
    assert done.counts == {"rules": 1}
    assert [rule.text for rule in lab.database.reflections.find(Filter(kinds=["rule"], status=None))] == [
        "Read the note before you open a door.",
    ]
    monkeypatch.setattr(Model, "writes", False)
    assert consolidation(lab, write=True).writer is None


def test_a_lab_finds_rules_in_the_facts(open_lab: Callable[..., Lab], note_reader: ScriptedEngine) -> None:
    lab = open_lab(engine=Loser([]))
    lose_and_win(lab, note_reader)
    consolidation(lab).run(["rules"])
    assert "Games were won with 'read …'." in {
        rule.text for rule in lab.database.reflections.find(Filter(kinds=["rule"], status=None))
    }
