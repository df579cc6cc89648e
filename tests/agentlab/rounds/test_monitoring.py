"""What is watched of a new adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentlab.errors import Stopped
from agentlab.lab import Lab
from agentlab.rounds import RoundReport
from agentlab.rounds.gating import gate
from agentlab.rounds.monitoring import monitor
from memory.store import EpisodeFilter
from trainers import job
from trainers.config import BaseRef
from trainers.data.examples import Example
from trainers.gate.monitors import Monitors

Opened = Callable[..., Lab]
Made = Callable[..., RoundReport]
ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
SETTINGS: dict[str, Any] = {"envs": [ENV], "monitor": {"tasks": 3, "k": 4, "temperature": 0.1}}


@pytest.fixture
def opened(spelling: Opened) -> Callable[..., Lab]:
    """Opens a lab with a job of one example, and the adapter that came of it."""

    def made(name: str = "lab", progress: Any = None) -> Lab:
        from trainers.adapters.record import AdapterRecord

        lab = spelling(name, progress=progress)
        record = AdapterRecord(id="adapter-good", base="b", fingerprint="f", path="adapters/good")
        lab.adapters.records.put(record)
        example = Example(token_ids=[1, 2, 3, 4], weights=[0.0, 0.0, 1.0, 1.0], episode="ep-1", task="t")
        config = job.JobConfig(base=BaseRef(name="b", fingerprint="f", path=""))
        job.create(lab.folder / "jobs" / "round-1", config, [example])
        return lab

    return made


def test_it_samples_dev_games_without_memory_and_measures_the_drift(opened: Callable[..., Lab], report: Made) -> None:
    lab, made = opened(), report(**SETTINGS)
    assert monitor(lab, made) == "gate"
    found = Monitors.model_validate(made.monitors)
    assert found.pass_at_1 is not None and (found.pass_at_1.value, found.pass_at_1.n) == (1.0, 3)
    assert found.pass_at_k_s is not None and found.pass_at_k_s.value == 0.0, "it wins one way, always the same"
    assert (found.successes, found.distinct) == (12, 3)
    assert found.entropy is not None and found.entropy.value > 0
    # Half a nat a token by the base, a quarter by the adapter.
    assert found.drift is not None and found.drift.value == pytest.approx(0.25)
    rows = lab.database.episodes.find(EpisodeFilter(run="round-1-monitor"))
    assert {(row.split, row.adapter) for row in rows} == {("dev", "adapter-good")} and len(rows) == 12


def test_stopped_and_called_again_it_reports_the_same(opened: Callable[..., Lab], report: Made, breaks: Any) -> None:
    whole, made = report(**SETTINGS), report(**SETTINGS)
    monitor(opened("unbroken"), whole)
    lab = opened("broken", breaks("sampling", 2))
    with pytest.raises(Stopped):
        monitor(lab, made)
    monitor(lab, made)
    assert (
        made.monitors == whole.monitors and len(lab.database.episodes.find(EpisodeFilter(run="round-1-monitor"))) == 12
    )


def test_an_engine_that_scores_no_texts_leaves_the_drift_out(skilled: Opened, report: Made) -> None:
    made = report(**SETTINGS)
    monitor(skilled(), made)
    assert made.monitors["drift"] is None and made.monitors["successes"] == 12


def test_where_no_drift_is_asked_for_neither_adapter_nor_job_is_loaded(
    opened: Callable[..., Lab], report: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, made = opened(), report(envs=[ENV], monitor={"examples": 0})
    monkeypatch.setattr(job, "load", lambda folder: pytest.fail("the job was read"))
    monkeypatch.setattr(lab, "model", lambda adapter=None: pytest.fail("the adapter was loaded"))
    assert monitor(lab, made) == "gate" and made.monitors["drift"] is None


def test_without_samples_the_drift_is_measured_and_the_games_at_the_gate_give_the_rest(
    opened: Callable[..., Lab], report: Made
) -> None:
    lab, made = opened(), report(envs=[ENV], gate_seeds=6, gate={"min_pairs": 4, "sequential": False})
    assert monitor(lab, made) == "gate" and lab.database.episodes.find() == [], "the drift needs no play"
    before = Monitors.model_validate(made.monitors)
    assert before.drift is not None and before.drift.value == pytest.approx(0.25) and before.pass_at_1 is None
    gate(lab, made)
    found = Monitors.model_validate(made.monitors)
    assert found.pass_at_1 is not None and (found.pass_at_1.value, found.pass_at_1.n) == (1.0, 6)
    assert found.pass_at_k is None and found.pass_at_k_s is None, "one trial a game says nothing of four"
    assert found.entropy is not None and found.drift == before.drift
    assert found.pass_at_1.n == made.gate["candidate"]["n"], "the incumbent's games are not among them"


def test_the_games_at_the_gate_do_not_replace_samples(opened: Callable[..., Lab], report: Made) -> None:
    lab, made = opened(), report(**SETTINGS, gate_seeds=6, gate={"min_pairs": 4})
    monitor(lab, made)
    sampled = dict(made.monitors)
    gate(lab, made)
    assert made.monitors == sampled


def test_by_default_nothing_is_sampled_and_what_is_sampled_counts_as_held_out(report: Made) -> None:
    assert report().config.monitor.tasks == 0
    config = report(envs=[ENV], gate_seeds=5, monitor={"tasks": 8}).config
    assert config.dev_seeds == 8 and sum(task.split == "dev" for task in config.tasks(1)) == 8
