"""A loss that is no number, or that jumps, stops a job and leaves the batch behind."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trainers.data.examples import Example
from trainers.errors import LossSpike, TrainingDiverged
from trainers.training import divergence

BATCH = [Example(token_ids=[1, 2, number], weights=[0, 0, 1], episode=f"e{number}", task="t") for number in (3, 4)]


def test_a_jump_is_told_by_the_median_of_all_losses_before() -> None:
    # Seven low losses and two high ones: the median is 1, the mean is above 20.
    earlier = [1.0] * 7 + [100.0, 100.0]
    assert divergence.spiked(5.1, earlier, 5) and not divergence.spiked(5.0, earlier, 5)


def test_too_few_losses_and_a_rule_that_is_off_tell_nothing() -> None:
    assert not divergence.spiked(1e6, [1.0] * (divergence.FIRST - 1), 5)
    assert divergence.spiked(1e6, [1.0] * divergence.FIRST, 5)
    assert not divergence.spiked(1e6, [1.0] * divergence.FIRST, 0)


def test_losses_around_nothing_have_no_jumps() -> None:
    assert not divergence.spiked(1.0, [0.0] * 10, 5) and not divergence.spiked(1.0, [-1.0] * 10, 5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_number_stops_at_once(tmp_path: Path, loss: float) -> None:
    with pytest.raises(TrainingDiverged, match="lower learning_rate") as raised:
        divergence.check(loss, [], 0.0, BATCH, tmp_path)
    assert "step 1 " in str(raised.value) and "\n" not in str(raised.value)
    lines = (tmp_path / divergence.BATCH).read_text().splitlines()
    assert [Example.model_validate_json(line) for line in lines] == BATCH


def test_a_jump_names_the_step_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(LossSpike, match=r"jumped to 50 at step 9, from a median of 2 .*spike=0") as raised:
        divergence.check(50.0, [2.0] * 8, 20.0, BATCH, tmp_path)
    assert "\n" not in str(raised.value)
    assert len((tmp_path / divergence.BATCH).read_text().splitlines()) == 2


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LossSpike):
        divergence.check(50.0, [2.0] * 8, 20.0, BATCH, None)
    assert not list(tmp_path.iterdir())


def test_an_ordinary_loss_passes(tmp_path: Path) -> None:
    divergence.check(39.0, [2.0] * 8, 20.0, BATCH, tmp_path)
    assert not list(tmp_path.iterdir())
