"""Training learns, can be killed at any instant, and gives the same bytes all the same."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import job
from trainers.data.examples import Example
from trainers.errors import BadBase, CanaryFailed, OutOfMemory, TrainingDiverged
from trainers.objectives import dispatch
from trainers.objectives.losses import chosen_logprobs, collate
from trainers.training import checkpoints, loop, read_curve, setup, training
from trainers.training.canary import Canary
from trainers.training.weights import reference

WEIGHTS = Path("adapter") / "adapter_model.safetensors"


def started(trained: Path, folder: Path) -> Path:
    """A job like `trained`, before its first step."""
    folder.mkdir()
    for name in ("job.json", "examples.jsonl", "lineage.json"):
        shutil.copy(trained / name, folder / name)
    return folder


def loaded(trained: Path, base: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), trained / "adapter").eval()


def test_the_loss_falls_and_every_lora_weight_has_moved(trained: Path, config: job.JobConfig) -> None:
    from safetensors.torch import load_file

    report = json.loads((trained / "report.json").read_text())
    assert sum(report["losses"][-3:]) < sum(report["losses"][:3])
    weights = load_file(trained / WEIGHTS)
    assert len(weights) == 4 * 7 * 2
    # B starts at zero.
    assert all(tensor.dtype is torch.float32 and tensor.ne(0).any() for tensor in weights.values())


def test_the_report_counts_what_was_done(trained: Path, some_examples: list[Example]) -> None:
    report = job.Report.model_validate_json((trained / "report.json").read_bytes())
    assert report.tokens == 2 * sum(len(example) for example in some_examples)
    assert report.chosen_tokens == 2 * sum(sum(map(bool, example.weights)) for example in some_examples)
    assert (report.examples, report.steps, report.resumed, report.device) == (20, 10, 0, "cpu")
    assert report.seconds > 0 and set(report.versions) == {"torch", "transformers", "peft", "trainers"}


def test_a_finished_job_holds_results_and_no_leftovers(trained: Path) -> None:
    names = [
        "adapter",
        "canary.json",
        "curve.jsonl",
        "done",
        "examples.jsonl",
        "job.json",
        "lineage.json",
        "lock",
        "report.json",
    ]
    assert sorted(path.name for path in trained.iterdir()) == names
    assert sorted(path.name for path in (trained / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "canary.json",
    ]
    settings = json.loads((trained / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny"
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_the_canary_passes_with_the_adapter_and_fails_without(trained: Path, tiny_model: Path) -> None:
    recorded = Canary.load(trained / "canary.json")
    weights = [0.0] * len(recorded.token_ids)
    for start, end in recorded.spans:
        weights[start:end] = [1.0] * (end - start)
    batch = collate([Example(token_ids=recorded.token_ids, weights=weights, episode="e", task="t")])
    model = loaded(trained, tiny_model)
    with torch.no_grad():
        recorded.check(float(chosen_logprobs(model, batch)[0].sum()))
        assert recorded.discriminates
        with model.disable_adapter(), pytest.raises(CanaryFailed, match="the adapter is off"):
            recorded.check(float(chosen_logprobs(model, batch)[0].sum()))
        recorded.check(float(chosen_logprobs(model.merge_and_unload(), batch)[0].sum()))


KILLS = {
    "between two checkpoints": "progress = lambda done, total, metrics: done == 8 and die()",
    "before the first checkpoint": "progress = lambda done, total, metrics: done == 2 and die()",
    "while a checkpoint is written": (
        "import torch; save = torch.save\n"
        "torch.save = lambda what, path, *rest: die() if 'checkpoint-6' in str(path) else save(what, path, *rest)"
    ),
    "when a checkpoint is written but not marked": (
        "from trainers.training import loop; mark = loop.Watch.on_save\n"
        "loop.Watch.on_save = lambda self, args, state, control, **rest: "
        "die() if state.global_step == 6 else mark(self, args, state, control, **rest)"
    ),
    "after training, before the results": (
        "from trainers.training import canary; canary.make = lambda *rest, **more: die()"
    ),
    "between the results and their mark": (
        "from trainers import job; move = job.os.replace\n"
        "job.os.replace = lambda a, b: die() if str(b).endswith('done') else move(a, b)"
    ),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_job_goes_on_and_gives_the_same_bytes(
    trained: Path, tmp_path: Path, kill_job: Callable[[Path, str], None], moment: str
) -> None:
    folder = started(trained, tmp_path / "job")
    kill_job(folder, KILLS[moment])
    assert not (folder / "done").exists()

    outcome = job.run(folder)

    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    assert (folder / "canary.json").read_bytes() == (trained / "canary.json").read_bytes()
    unbroken = job.Report.model_validate_json((trained / "report.json").read_bytes())
    assert outcome.report.losses == unbroken.losses
    assert [point.loss for point in read_curve(folder)] == unbroken.losses
    assert outcome.report.resumed == (0 if "first" in moment else 1)
    assert not (folder / "checkpoints").exists()


def rest(folder: Path) -> list[int]:
    """The steps that the same call still does."""
    done: list[int] = []
    job.run(folder, progress=lambda step, total, metrics: done.append(step))
    return done


def interrupt(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Ctrl-C in the middle of a function, the first time that `when` is true of what it is called with."""
    inner = getattr(owner, name)
    struck: list[bool] = []

    def struck_once(*arguments: Any, **options: Any) -> Any:
        if not struck and when(*arguments):
            struck.append(True)
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setattr(owner, name, struck_once)


def nth(number: int) -> Callable[..., bool]:
    calls = iter(range(1, 1000))
    return lambda *arguments: next(calls) == number


STOPS: dict[str, tuple[Any, str, Callable[..., bool], int, int]] = {
    "in a later pass": (dispatch.Sft, "cost", nth(8), 20, 8),
    "while the weights move": (torch.optim.AdamW, "step", nth(5), 3, 4),
    "while a checkpoint is written": (torch, "save", lambda what, path, *_: "checkpoint-6" in str(path), 6, 7),
    "before a checkpoint is marked": (checkpoints, "mark", nth(1), 6, 7),
}


@pytest.mark.parametrize("moment", STOPS)
def test_ctrl_c_costs_no_step_that_was_finished(
    trained: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, when, every, first = STOPS[moment]
    folder = started(trained, tmp_path / "job")
    interrupt(monkeypatch, owner, name, when)
    with pytest.raises(KeyboardInterrupt):
        job.run(folder, save_every=every)
    assert rest(folder) == list(range(first, 11))
    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    unbroken = job.Report.model_validate_json((trained / "report.json").read_bytes())
    again = job.Report.model_validate_json((folder / "report.json").read_bytes())
    assert again.losses == unbroken.losses and again.resumed == (first > 1)
    assert [point.loss for point in read_curve(folder)] == unbroken.losses


def test_ctrl_c_again_and_again_still_comes_to_the_end(
    tmp_path: Path, config: job.JobConfig, some_examples: list[Example]
) -> None:
    settings = config.model_copy(update={"epochs": 1, "save_every": 20})
    for name in ("whole", "stopped"):
        job.create(tmp_path / name, settings, some_examples[:12])

    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            job.run(tmp_path / "stopped", progress=stop)
    assert job.run(tmp_path / "stopped", progress=stop).report.resumed == 3
    job.run(tmp_path / "whole")
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("step", "write", "kept"),
    [(4.0, 0.1, [3, 6, 9]), (4.0, 0.5, [3]), (0.9, 0.1, [])],
)
def test_checkpoints_come_as_time_passes_measured_by_what_one_costs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float, write: float, kept: list[int]
) -> None:
    now, marked, cost, mark = [0.0], list[int](), dispatch.Sft.cost, checkpoints.mark

    def slow_cost(*arguments: Any) -> Any:
        now[0] += step
        return cost(*arguments)

    def slow_mark(checkpoint: Path, **facts: Any) -> None:
        now[0] += write
        marked.append(int(checkpoint.name.rpartition("-")[2]))
        mark(checkpoint, **facts)

    monkeypatch.setattr(loop, "monotonic", lambda: now[0])
    monkeypatch.setattr(dispatch.Sft, "cost", slow_cost)
    monkeypatch.setattr(checkpoints, "mark", slow_mark)
    folder = started(trained, tmp_path / "job")
    job.run(folder, save_every=50)
    assert [step for step in marked if step < 10] == [step for step in kept if step < 10]
    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_a_checkpoint_cut_short_by_a_power_failure_is_passed_over(trained: Path, tmp_path: Path) -> None:
    folder = started(trained, tmp_path / "job")

    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(folder, progress=stop)
    newest = folder / "checkpoints" / "checkpoint-8"
    with open(newest / "optimizer.pt", "r+b") as stream:
        stream.truncate(1000)
    assert rest(folder) == [7, 8, 9, 10]
    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_checkpoints_hold_no_pickled_arguments(trained: Path, tmp_path: Path) -> None:
    folder = started(trained, tmp_path / "job")

    def stop(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(folder, progress=stop)
    names = {path.name for path in (folder / "checkpoints" / "checkpoint-3").iterdir()}
    assert "adapter_model.safetensors" in names and "training_args.bin" not in names


def test_progress_is_told_after_every_step(trained: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = started(trained, tmp_path / "job")

    def progress(done: int, total: int, metrics: dict[str, float]) -> None:
        assert set(metrics) == {"loss", "learning_rate", "tokens_per_second"}
        told.append((done, total))

    job.run(folder, progress=progress)
    assert told == [(step, 10) for step in range(1, 11)]


def test_another_seed_gives_another_adapter(trained: Path, tmp_path: Path, config: job.JobConfig) -> None:
    examples = job.load(trained).examples
    job.create(tmp_path / "job", config.model_copy(update={"seed": 1, "epochs": 1}), examples)
    job.run(tmp_path / "job")
    assert (tmp_path / "job" / WEIGHTS).read_bytes() != (trained / WEIGHTS).read_bytes()


def test_training_in_float32_with_the_fused_attention_gives_nearly_the_same(
    trained: Path, tmp_path: Path, config: job.JobConfig
) -> None:
    settings = config.model_copy(update={"dtype": "float32", "attention": "sdpa"})
    job.create(tmp_path / "job", settings, job.load(trained).examples)
    outcome = job.run(tmp_path / "job")
    assert (outcome.report.dtype, outcome.report.attention) == ("float32", "sdpa")
    before = job.Report.model_validate_json((trained / "report.json").read_bytes())
    assert outcome.report.losses == pytest.approx(before.losses, abs=0.05)


def test_the_caller_gets_its_random_state_and_threads_back(trained: Path, tmp_path: Path) -> None:
    from transformers.utils import logging as noise

    folder = started(trained, tmp_path / "job")
    random.seed(4)
    torch.manual_seed(4)
    before = (random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), noise.get_verbosity())
    job.run(folder)
    after = (random.getstate(), torch.get_rng_state().tolist(), torch.get_num_threads(), noise.get_verbosity())
    assert after == before


def test_a_loss_that_is_no_number_stops_the_job(trained: Path, tmp_path: Path, config: job.JobConfig) -> None:
    wild = config.model_copy(update={"learning_rate": 1e30, "clip": 1e30, "warmup_ratio": 0.0})
    job.create(tmp_path / "job", wild, job.load(trained).examples)
    with pytest.raises(TrainingDiverged, match="lower learning_rate"):
        job.run(tmp_path / "job")
    assert not (tmp_path / "job" / "done").exists()


def test_weights_that_are_no_numbers_are_never_published() -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    with pytest.raises(TrainingDiverged, match="no longer a number"):
        training._refuse_broken(layer)


@pytest.mark.parametrize(
    ("longest", "computes", "expected"),
    [(300, True, ("cpu", torch.bfloat16, "eager")), (900, False, ("cpu", torch.float32, "sdpa"))],
)
def test_auto_follows_the_machine_and_the_data(
    config: job.JobConfig,
    monkeypatch: pytest.MonkeyPatch,
    longest: int,
    computes: bool,
    expected: tuple[str, torch.dtype, str],
) -> None:
    monkeypatch.setattr(setup, "_cpu_computes_bfloat16", lambda: computes)
    assert setup.resolve(config.model_copy(update={"device": "cpu", "dtype": "auto"}), longest)[:3] == expected


def test_auto_takes_an_accelerator(config: job.JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert setup.resolve(config.model_copy(update={"dtype": "auto"}), 300)[:3] == ("cuda", torch.bfloat16, "sdpa")


@pytest.mark.parametrize("attention", ["auto", "eager"])
def test_a_base_that_was_cut_short_is_told_as_such_whatever_the_attention(
    trained: Path, tmp_path: Path, tiny_model: Path, config: job.JobConfig, attention: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    with open(base / "model.safetensors", "r+b") as stream:
        stream.truncate(1000)
    cut = config.model_copy(update={"base": reference("tiny", base), "attention": attention})
    job.create(tmp_path / "job", cut, job.load(trained).examples)
    with pytest.raises(BadBase, match=str(base)) as raised:
        job.run(tmp_path / "job")
    assert "\n" not in str(raised.value)


def test_a_base_over_which_memory_runs_out_is_too_large(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(training.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(OutOfMemory):
        job.run(started(trained, tmp_path / "job"))
