"""What `benchmarks/training.py` compares: the same loss-bearing tokens in every form, and work counted once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from trainers.data.examples import Example

Load = Callable[[str], ModuleType]
EXAMPLE = {"token_ids": [1, 2, 3, 4, 5, 6, 7], "weights": [0, 0, 1, 1, 0, 0, 1]}


def test_both_of_trls_forms_have_the_loss_where_ours_has_it(load: Load) -> None:
    workers = load("training_workers")
    assert workers.whole(EXAMPLE) == {"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [-100, -100, 3, 4, -100, -100, 7]}
    assert workers.per_step(EXAMPLE) == [
        {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, 4]},
        {"input_ids": [1, 2, 3, 4, 5, 6, 7], "labels": [-100] * 6 + [7]},
    ]


def test_useful_work_is_counted_by_hand(tmp_path: Path, load: Load) -> None:
    bench = load("training")
    config = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    # Queries and output 8 × 8, keys and values 8 × 4, and three of 8 × 16; LoRA of rank 1 on each.
    frozen = 2 * 64 + 2 * 32 + 3 * 128
    low_rank = 2 * 16 + 2 * 12 + 3 * 24
    layer = 7 * (4 * frozen + 6 * low_rank) + 3 * (4 * 8 * 7 * 7 / 2)
    expected = 2 * layer + 4 * 8 * 32 * 3
    assert bench.useful_work(tmp_path, 1, [Example(**EXAMPLE, episode="e", task="t")]) == expected


@pytest.mark.parametrize(
    ("card", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L40S", 362e12), ("Some card", None)],
)
def test_a_cards_peak_is_known_by_its_name_or_said_to_be_unknown(card: str, peak: float | None, load: Load) -> None:
    assert load("training").peak_of(card) == peak


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
