"""One step's weights do not depend on how it was cut: into parts, among processes, or by a kill."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trainers import job
from trainers.data.examples import Example
from trainers.errors import LossSpike, OutOfMemory
from trainers.objectives import dispatch
from trainers.objectives.base import Cost
from trainers.training import divergence, packing

WEIGHTS = Path("adapter") / "adapter_model.safetensors"
FULL = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.fixture(scope="module")
def exact(config: job.JobConfig) -> job.JobConfig:
    """Settings under which different ways of adding up are close."""
    return config.model_copy(update={"dtype": "float32", "batch_size": 3})


@pytest.fixture(scope="module")
def examples(some_examples: list[Example]) -> list[Example]:
    """19 examples of different weights: the last batch of three is a single one."""
    return [
        example.model_copy(update={"weights": [weight * (1 + number % 4) for weight in example.weights]})
        for number, example in enumerate(some_examples[:19])
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, exact: job.JobConfig, examples: list[Example]) -> Path:
    """The job done in one piece by one process. Do not change it."""
    folder = tmp_path_factory.mktemp("plain") / "job"
    job.create(folder, exact, examples)
    job.run(folder)
    return folder


def same(folder: Path, other: Path) -> None:
    """Losses and weights agree to floating point."""
    from safetensors.torch import load_file

    one, two = job.result(folder), job.result(other)
    assert one is not None and two is not None
    assert one.report.losses == pytest.approx(two.report.losses, abs=2e-4)
    weights, others = load_file(folder / WEIGHTS), load_file(other / WEIGHTS)
    for name, tensor in weights.items():
        # Adam divides by the gradient's size: where that is next to nothing, rounding decides on a step's direction.
        assert (tensor - others[name]).abs().mean() < 1e-4, name


def cramped(monkeypatch: pytest.MonkeyPatch, room: int, needs: Callable[[Any], bool] = lambda model: True) -> list[int]:
    """Memory runs out in passes of more than `room` examples; returns the sizes of those that went through."""
    sizes: list[int] = []
    cost = dispatch.Sft.cost

    def limited(self: Any, model: Any, inputs: Any, bare: Any) -> Cost:
        size = len(inputs["batch"]["token_ids"])
        if size > room and needs(model):
            raise RuntimeError(FULL)
        sizes.append(size)
        return cost(self, model, inputs, bare)

    monkeypatch.setattr(dispatch.Sft, "cost", limited)
    return sizes


def test_where_memory_runs_out_the_batch_goes_through_in_parts(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = cramped(monkeypatch, 1)
    job.create(tmp_path / "job", exact, examples)
    report = job.run(tmp_path / "job").report
    assert sizes == [1] * 38 and report.examples_at_once == 1 and not report.checkpointing
    same(tmp_path / "job", plain)


def test_what_memory_allowed_is_remembered_over_a_kill(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 5:
            raise KeyboardInterrupt

    cramped(monkeypatch, 2)
    job.create(tmp_path / "job", exact, examples)
    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "job", progress=stop)
    monkeypatch.undo()
    sizes = cramped(monkeypatch, 99)
    report = job.run(tmp_path / "job").report
    assert max(sizes) == 2 == report.examples_at_once and report.resumed == 1
    same(tmp_path / "job", plain)


def test_a_single_example_that_is_too_much_has_its_activations_computed_again(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cramped(monkeypatch, 0, lambda model: not model.is_activation_checkpointing)
    job.create(tmp_path / "job", exact, examples)
    report = job.run(tmp_path / "job").report
    assert report.checkpointing and report.examples_at_once == 1
    same(tmp_path / "job", plain)


def test_activations_are_computed_again_where_that_is_asked_for(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path
) -> None:
    job.create(tmp_path / "job", exact.model_copy(update={"checkpointing": "on"}), examples)
    report = job.run(tmp_path / "job").report
    assert report.checkpointing and report.examples_at_once == 3
    same(tmp_path / "job", plain)


def test_where_nothing_helps_the_job_says_so(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    cramped(monkeypatch, 0)
    job.create(tmp_path / "job", exact.model_copy(update={"checkpointing": "off"}), examples)
    with pytest.raises(OutOfMemory, match="larger machine"):
        job.run(tmp_path / "job")


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Cost:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(dispatch.Sft, "cost", broken)
    job.create(tmp_path / "job", exact, examples)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        job.run(tmp_path / "job")


def test_packed_training_is_padded_training(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "why_not", lambda model, longest: "it is not wanted")
    job.create(tmp_path / "job", exact, examples)
    padded = job.run(tmp_path / "job").report
    assert (padded.packed, padded.why_padded) == (False, "it is not wanted")
    packed = job.result(plain)
    assert packed is not None and packed.report.packed and not packed.report.why_padded
    same(tmp_path / "job", plain)


def test_dropout_drops_the_same_after_a_kill(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path
) -> None:
    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 5:
            raise KeyboardInterrupt

    for name in ("whole", "killed"):
        job.create(tmp_path / name, exact.model_copy(update={"dropout": 0.2}), examples)
    job.run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "killed", progress=stop)
    job.run(tmp_path / "killed")
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "killed" / WEIGHTS).read_bytes()
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() != (plain / WEIGHTS).read_bytes()


def test_a_jump_of_the_loss_stops_the_job_before_it_moves_a_weight(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "job"
    job.create(folder, exact.model_copy(update={"spike": 5.0}), examples)
    cost = dispatch.Sft.cost
    steps: list[Any] = []

    def jumps(self: Any, model: Any, inputs: Any, bare: Any) -> Cost:
        steps.append(inputs["batch"]["token_ids"])
        loss, measures = cost(self, model, inputs, bare)
        return Cost(loss * 9 if len(steps) == 11 else loss, measures)

    monkeypatch.setattr(dispatch.Sft, "cost", jumps)
    with pytest.raises(LossSpike, match="at step 11"):
        job.run(folder)
    kept = [Example.model_validate_json(line) for line in (folder / divergence.BATCH).read_text().splitlines()]
    assert [example.token_ids for example in kept] == [
        row[: len(example)].tolist() for row, example in zip(steps[10], kept, strict=True)
    ]
    assert len(kept) == len(steps[10])
    # What was wrong is gone: the job goes on to what it would have been.
    monkeypatch.undo()
    job.run(folder)
    same(folder, plain)
    assert not (folder / divergence.BATCH).exists()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def launch(folder: Path) -> subprocess.CompletedProcess[str]:
    """Train in two processes by the command that a person would type."""
    # The job keeps to the device that it is told; the flag makes accelerate start several processes here.
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
        *("--num_processes", "2", "--main_process_port", str(free_port()), "--mixed_precision", "no"),
        *("--dynamo_backend", "no", "-m", "trainers.job", str(folder)),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def both(folder: Path, in_a_process: Callable[..., tuple[int, str]]) -> list[tuple[int, str]]:
    """The same two processes without the launcher: how each ended, and what it printed."""
    port = str(free_port())

    def one(rank: int) -> tuple[int, str]:
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_MIXED_PRECISION": "no"}
        code = f"import os, runpy; os.environ.update({place!r}); runpy.run_module('trainers.job', run_name='__main__')"
        return in_a_process(code, str(folder))

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, range(2)))


@pytest.mark.slow
def test_two_processes_train_the_same_job_to_the_same_weights(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], plain: Path
) -> None:
    job.create(tmp_path / "job", exact.model_copy(update={"device": "cpu"}), examples)
    done = launch(tmp_path / "job")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("14 steps") == 1
    outcome = job.result(tmp_path / "job")
    assert outcome is not None and outcome.report.processes == 2
    same(tmp_path / "job", plain)


@pytest.mark.slow
def test_of_two_processes_only_the_first_writes_and_both_stop_where_the_loss_is_no_number(
    tmp_path: Path, exact: job.JobConfig, examples: list[Example], in_a_process: Callable[..., tuple[int, str]]
) -> None:
    wild = {"device": "cpu", "learning_rate": 1e30, "clip": 1e30, "warmup_ratio": 0.0, "save_every": 1}
    job.create(tmp_path / "job", exact.model_copy(update=wild), examples[:18])
    for status, said in both(tmp_path / "job", in_a_process):
        assert status != 0 and "lower learning_rate" in said
    assert len((tmp_path / "job" / divergence.BATCH).read_text().splitlines()) == 3
    written = {path.name for path in (tmp_path / "job" / "checkpoints" / "checkpoint-1").iterdir()}
    assert [name for name in sorted(written) if name.startswith("rng_state")] == ["rng_state_0.pth"]
    assert not (tmp_path / "job" / "done").exists()
