"""A canary tells an adapter that is on from one that is off."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trainers.data.examples import Example
from trainers.errors import BadAdapter, CanaryFailed, NothingToTrain
from trainers.training import canary as canaries
from trainers.training.canary import Canary

RECORDED = Canary(token_ids=[1, 2, 3], spans=[(1, 3)], base_logprob=-40.0, adapter_logprob=-10.0, base="f")


def test_the_recorded_score_passes_and_so_does_one_with_rounding() -> None:
    RECORDED.check(-10.0)
    RECORDED.check(-10.0 - RECORDED.tolerance + 1e-6)
    assert RECORDED.tolerance == pytest.approx(0.15 * 30 + 0.5)


def test_the_score_of_the_base_says_that_the_adapter_is_off() -> None:
    assert RECORDED.discriminates
    with pytest.raises(CanaryFailed, match="the adapter is off"):
        RECORDED.check(-40.5)


@pytest.mark.parametrize("measured", [-20.0, 0.0, math.nan])
def test_any_other_score_says_that_something_else_is_loaded(measured: float) -> None:
    with pytest.raises(CanaryFailed, match="another adapter or base"):
        RECORDED.check(measured)


def test_an_adapter_that_changed_nothing_cannot_be_told_from_the_base() -> None:
    assert not RECORDED.model_copy(update={"base_logprob": -10.5}).discriminates


def test_the_example_with_the_widest_gap_becomes_the_canary() -> None:
    examples = [Example(token_ids=[n, 1], weights=[0.0, 1.0], episode="e", task="t") for n in range(5)]
    mute = Example(token_ids=[9, 9], weights=[0.0, 0.0], episode="e", task="t")
    made = canaries.make([mute, *examples], lambda e: -10.0, lambda e: -10.0 + e.token_ids[0], "f", tried=4)
    assert made.token_ids == [3, 1] and made.spans == [(1, 2)] and made.base == "f"


def test_there_is_no_canary_without_a_chosen_token() -> None:
    mute = Example(token_ids=[9, 9], weights=[0.0, 0.0], episode="e", task="t")
    with pytest.raises(NothingToTrain):
        canaries.make([mute], lambda e: 0.0, lambda e: 0.0, "f")


def test_a_canary_survives_the_disk(tmp_path: Path) -> None:
    RECORDED.save(tmp_path / "canary.json")
    assert Canary.load(tmp_path / "canary.json") == RECORDED


@pytest.mark.parametrize("content", [None, "{", '{"token_ids": []}'])
def test_a_missing_or_damaged_canary_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "canary.json").write_text(content)
    with pytest.raises(BadAdapter, match="no usable canary"):
        Canary.load(tmp_path / "canary.json")
