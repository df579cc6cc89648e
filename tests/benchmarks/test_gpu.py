"""The check of a card runs on a bare machine, part by part, and says what it saw and what it did not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ABSENT = (
    "faiss", "gguf", "gymnasium", "langgraph", "platformdirs", "rich", "scipy", "sentence_transformers", "sqlite_utils",
    "textworld_express", "typer",
)  # fmt: skip
"""What agentlab needs and a bare machine has not."""


def test_it_runs_where_there_is_little_more_than_pytorch(
    tmp_path: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    bare = f"sys.modules.update(dict.fromkeys({ABSENT!r}))\nsys.path.insert(0, {str(BENCHMARKS)!r})\n"
    run = f"import runpy\nrunpy.run_path({str(BENCHMARKS / 'gpu.py')!r}, run_name='__main__')"
    status, said = in_a_process(bare + run, "--dry-run", "--out", str(tmp_path))
    assert status == 0, said
    state = json.loads((tmp_path / "gpu-dry-run.json").read_text("utf-8"))
    rows = [row for part in state["parts"].values() for row in part["rows"]]
    packed, padded = (row for row in rows if row.get("form") and row["model"].startswith("Qwen2.5-7B"))
    assert packed["loss"] == pytest.approx(padded["loss"], abs=1e-4) and padded["padding"] > 0
    numbers = {(row["dtype"], row["at_once"]): row for row in rows if "same" in row}
    assert numbers["float32", 4]["largest"] < 1e-3 < numbers["bfloat16", 1]["largest"] < 0.5
    table = (tmp_path / "gpu-dry-run.md").read_text("utf-8")
    assert "peak is not known here" in table
    assert all(f"| {name}, tiny, random weights |" in table for name in ("SmolLM2-135M", "Qwen2.5-1.5B", "Qwen2.5-7B"))


@pytest.fixture
def gpu(load: Load, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("gpu_bench", "gpu_training", "gpu_playing"):
        monkeypatch.setitem(sys.modules, name, load(name))
    return load("gpu")


def test_each_part_is_kept_as_it_ends_and_the_same_command_does_what_is_missing(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    broken = True

    def part(name: str) -> Callable[[], list[dict[str, Any]]]:
        def measure() -> list[dict[str, Any]]:
            done.append(name)
            if name == "train b" and broken:
                raise RuntimeError("out of memory")
            if name == "train c" and broken:
                raise KeyboardInterrupt
            return []

        return measure

    names = ("train a", "train b", "train c")
    monkeypatch.setattr(gpu, "parts", lambda bench: {name: (0.0, part(name)) for name in names})
    asked = ["--dry-run", "--out", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        gpu.main(asked)
    assert done == [*names]
    broken = False
    assert gpu.main([*asked, "--budget", "0"]) == 1, "no time for any"
    assert "No time was left for train b, train c;" in capsys.readouterr().out and done == [*names]
    assert gpu.main(asked) == 0
    assert done == [*names, "train b", "train c"], "what failed is tried again, what was done is not"


def test_what_failed_is_told_and_costs_no_other_part(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> list[dict[str, Any]]:
        raise RuntimeError("CUDA out\nof memory")

    monkeypatch.setattr(gpu, "parts", lambda bench: {"train x": (0.0, fails), "card": (0.0, lambda: [])})
    assert gpu.main(["--dry-run", "--out", str(tmp_path)]) == 1
    assert "- train x: RuntimeError: CUDA out of memory" in (tmp_path / "gpu-dry-run.md").read_text("utf-8")
    assert "rows" in json.loads((tmp_path / "gpu-dry-run.json").read_text("utf-8"))["parts"]["card"]


def test_a_part_is_not_begun_without_time_for_it(gpu: ModuleType) -> None:
    bench = SimpleNamespace(size=SimpleNamespace(dry=False))
    long, short = (100.0, lambda: [{}]), (0.0, lambda: [{}])
    state: dict[str, Any] = {"parts": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "parts", lambda bench: {"long": long, "short": short})
        patch.setattr(gpu, "_keep", lambda file, text: None)
        assert gpu.measured(bench, state, Path("x"), 50.0, gpu.time.monotonic()) == ["long"]
    assert list(state["parts"]) == ["short"]


def test_a_missing_package_is_told_in_one_line(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("torch", "no_such_package"))
    assert gpu.main(["--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "no_such_package" in said and "torch," not in said and said.count("\n") == 1


def test_distances_are_counted_by_hand(load: Load) -> None:
    reference = [[[-1.0, -2.0], [-3.0, -1.0]]]
    found = load("gpu_playing").apart([[[-1.5, -2.0], [-1.0, -1.25]]], reference)
    assert found == {"commands": 4, "largest": 2.0, "mean": 2.75 / 4, "same": 0.5}


def test_the_share_of_the_peak_is_left_out_where_that_is_not_known(load: Load) -> None:
    measure = load("gpu_bench")
    known, unknown = (SimpleNamespace(card=name) for name in ("NVIDIA H200", "Some card"))
    assert measure.of_peak(known, {}, 98.9e12)["share"] == pytest.approx(0.1)
    assert measure.of_peak(unknown, {}, 98.9e12)["share"] is None
