"""What `benchmarks/training.py` compares: the same loss-bearing tokens in every form, and steps counted once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]
EXAMPLE = {"token_ids": [1, 2, 3, 4, 5, 6, 7], "weights": [0, 0, 1, 1, 0, 0, 1]}


def test_both_of_trls_forms_have_the_loss_where_ours_has_it(load: Load) -> None:
    workers = load("training_workers")
    assert workers.whole(EXAMPLE) == {"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [-100, -100, 3, 4, -100, -100, 7]}
    assert workers.per_step(EXAMPLE) == [
        {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
        {"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [-100] * 6 + [7]},
    ]


def test_the_first_step_is_not_counted_and_threads_share_processor_time(load: Load) -> None:
    bench = load("training")
    run = bench.Run("ours", None, Path(), wall=[9.0, 1.0, 3.0], cpu=[9.0, 2.0, 2.0], tokens=[100, 30, 50])
    assert run.speed("wall", 2) == 20.0 and run.speed("cpu", 2) == 40.0


def test_a_broken_bound_is_told_and_is_the_exit_code(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    bench = load("training")
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    given = argparse.Namespace(clock="wall", threads=1)

    def tell(seconds: float, loss: float) -> int:
        runs = [
            bench.Run("ours", None, Path(), wall=[1, 1], cpu=[1, 1], tokens=[10, 10]),
            bench.Run("trl-steps", None, Path(), wall=[1, seconds], cpu=[1, 1], tokens=[10, 10]),
        ]
        return int(bench.tell(runs, {"ours": 0.5, "trl-steps": loss}, given, Path(), None, []))

    assert tell(6.5, 0.5) == 0 and "All bounds hold" in capsys.readouterr().out
    assert tell(5.5, 0.5) == 1 and "only 5.50 times as fast" in capsys.readouterr().out
    assert tell(6.5, 0.4) == 1 and "ends at a loss of 0.500" in capsys.readouterr().out
