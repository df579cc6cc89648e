"""A round picks its temperature and its threshold on a subset of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.errors import Stopped
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.balancing import balance
from memory.store import EpisodeFilter

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
GRID = {"temperatures": [0.1, 50.0], "thresholds": [0.0, 1.0], "tasks": 4, "trials": 3, "target": 1}


def test_the_better_balance_is_picked_and_told(spelling: Opened, report: Made) -> None:
    """The engine wins when it is cool and errs when it is hot; only wins score a full threshold."""
    lab, made = spelling(), report(adapter=None, envs=[ENV], seeds=9, balance=GRID)
    assert balance(lab, made) == "collect"
    assert made.balance == {"temperature": 0.1, "threshold": 1.0, "score": 1.0}
    assert made.temperature == 0.1
    rows = lab.database.episodes.find(EpisodeFilter(run="round-1-balance"))
    assert len(rows) == 2 * 4 * 3 and len({row.task for row in rows}) == 4
    assert {row.split for row in rows} == {"train"} and {row.seed for row in rows} <= set(range(9))
    episodes = lab.database.episodes.load([row.id for row in rows])
    assert {episode.temperature for episode in episodes} == {0.1, 50.0}, "the trials of a task are alike"
    assert not any(episode.recalled or episode.hints for episode in episodes)


def test_stopped_and_called_again_it_picks_the_same(spelling: Opened, report: Made, breaks: Any) -> None:
    whole, made = (report(adapter=None, envs=[ENV], seeds=9, balance=GRID) for _ in range(2))
    balance(spelling("unbroken"), whole)
    lab = spelling("broken", progress=breaks("sampling at temperature 50", 2))
    with pytest.raises(Stopped):
        balance(lab, made)
    balance(lab, made)
    assert made.balance == whole.balance
    assert len(lab.database.episodes.find(EpisodeFilter(run="round-1-balance"))) == 24


def test_without_balancing_the_model_explores_at_the_temperature_that_is_set(report: Made) -> None:
    assert report(temperature=0.6).temperature == 0.6
