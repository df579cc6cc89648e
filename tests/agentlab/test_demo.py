from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab import demo
from agentlab.lab import Lab
from agentlab.rounds import RoundConfig, TrainingConfig
from agentlab.rounds.checking import hopeless
from memory.store import EpisodeFilter
from trainers.gate.gate import GateConfig

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration in the toy game."""
    quick = RoundConfig(
        envs=[ENV],
        seeds=12,
        gate_seeds=14,
        held_out_seeds=0,
        training=TrainingConfig(learning_rate=5e-3, epochs=4),
        gate=GateConfig(min_pairs=10),
    )
    monkeypatch.setattr(demo, "ENVS", (ENV,))
    monkeypatch.setattr(demo, "TEST_SEEDS", range(4))
    monkeypatch.setattr(demo, "CREDIT_SEEDS", range(100, 112))
    monkeypatch.setattr(demo, "config", lambda: quick)


def test_the_demonstration_goes_round_the_whole_loop_and_can_be_repeated(
    tmp_path: Path, open_at: Callable[..., Lab], small: None
) -> None:
    with open_at(tmp_path / "lab") as lab:
        shown = demo.demonstrate(lab)
        assert shown.report.promoted
        assert [row.arm for row in shown.table.rows][::2] == [
            "random",
            "base + retry, 2 trials",
            "base + memory, 2 trials",
            "adapter + retry, 2 trials",
            "adapter + memory, 2 trials",
        ]
        assert all(row.cells["all"].n == 4 for row in shown.table.rows)
        assert [(found.arm, found.against) for found in shown.table.comparisons] == [
            ("base + memory, 2 trials", "base + retry, 2 trials"),
            ("adapter", "base"),
            ("adapter + memory, 2 trials", "adapter + retry, 2 trials"),
        ]
        assert shown.tried_again
        recalls = [one for row in lab.database.episodes.find(EpisodeFilter(run="demo-credit"))
                   for one in lab.database.recalls.of_episode(row.id)]  # fmt: skip
        assert {one.propensity for one in recalls} == {0.5} and {one.held_out for one in recalls} == {True, False}
        assert lab.memory.credit.report(1).measured > 0
        assert lab.config.hold_out == 0.1
        assert all(lab.database.episodes.get(id).run == "demo-play" for id in shown.tried_again)
        count = len(lab.database.episodes.find())
        assert demo.demonstrate(lab) == shown
        assert len(lab.database.episodes.find()) == count


def test_its_own_settings_are_three_real_games_and_a_gate_that_can_be_passed() -> None:
    config = demo.config()
    assert len(config.envs) == 3 and all(env.startswith("twx/") for env in config.envs)
    assert hopeless(config) == ""
