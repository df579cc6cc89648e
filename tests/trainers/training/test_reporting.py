"""Where curves may go is known before training starts."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from trainers import job
from trainers.data.examples import Example
from trainers.errors import MissingDependency, UnknownReporter
from trainers.training import reporting


def test_a_name_that_no_integration_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownReporter, match="did you mean tensorboard") as raised:
        reporting.check_reporters(["tensorbord"])
    assert "\n" not in str(raised.value)
    with pytest.raises(UnknownReporter, match="known: tensorboard, wandb, mlflow, trackio"):
        reporting.check_reporters(["carrier pigeon"])


@pytest.mark.parametrize("name", reporting.REPORTERS)
def test_a_reporter_that_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda package: None)
    with pytest.raises(MissingDependency, match=f"pip install {name}"):
        reporting.check_reporters([name])


def test_one_of_several_packages_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "find_spec", lambda package: package == "tensorboardX" or None)
    reporting.check_reporters(["tensorboard"])


def test_a_job_does_not_start_before_its_reporters_are_there(
    tmp_path: Path, some_examples: list[Example], config: job.JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trainers.training.training", None)
    job.create(tmp_path, config.model_copy(update={"report_to": ["wandbb"]}), some_examples)
    with pytest.raises(UnknownReporter, match="did you mean wandb"):
        job.run(tmp_path)


def test_curves_outlive_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TENSORBOARD_LOGGING_DIR"
    monkeypatch.delenv(name, raising=False)
    with reporting.logging_into(tmp_path):
        assert os.environ[name] == str(tmp_path / "runs")
    assert name not in os.environ
    monkeypatch.setenv(name, "elsewhere")
    with reporting.logging_into(tmp_path):
        assert os.environ[name] == "elsewhere"
    assert os.environ[name] == "elsewhere"


@pytest.mark.skipif(not find_spec("tensorboard"), reason="tensorboard is not installed")
def test_tensorboard_gets_the_loss(tmp_path: Path, some_examples: list[Example], config: job.JobConfig) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job.create(tmp_path / "job", config.model_copy(update={"report_to": ["tensorboard"]}), some_examples)
    losses = job.run(tmp_path / "job").report.losses
    events = EventAccumulator(str(tmp_path / "job" / "runs")).Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)
