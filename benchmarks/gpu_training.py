"""Training on a card as a job does it: LoRA, without padding and with it (for `benchmarks/gpu.py`)."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from cards import useful_work
from gpu_bench import Bench, Row, of_peak


def episodes(vocabulary: int, count: int, longest: int) -> list[Any]:
    """Examples as games make them: of 100 to `longest` tokens, some 8 % of which the agent chose."""
    from trainers.data import Example

    rng = random.Random(0)
    made = []
    for number in range(count):
        weights = [0.0] * 40
        wanted = min(max(int(rng.lognormvariate(6.0, 0.5)), 100), longest)
        while len(weights) < wanted:
            weights += [0.0] * rng.randint(30, 90) + [1.0] * rng.randint(3, 7)
        ids = [rng.randrange(vocabulary) for _ in weights]
        made.append(Example(token_ids=ids, weights=weights, episode=f"e{number}", task="toy"))
    return made


def training(bench: Bench, name: str) -> list[Row]:
    """The steps of a job, as it takes them, without padding and with it, from the same weights on the same episodes."""
    from peft import LoraConfig, get_peft_model

    from trainers import BaseRef, JobConfig
    from trainers.training import resolve

    bench.clear()
    settings = bench.config(name)
    examples = episodes(settings.vocab_size, 32 * bench.size.batch, bench.size.longest)
    config = JobConfig(
        base=BaseRef(name=name, fingerprint=""),
        batch_size=bench.size.batch,
        epochs=40,
        device="auto" if bench.device == "cuda" else "cpu",
        save_every=10**9,
        spike=0.0,
    )
    setup = resolve(config, max(map(len, examples)))
    base = bench.model(name, setup.dtype, "sdpa" if setup.attention == "flash" else setup.attention)
    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=config.targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora)
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    begun = [weights.detach().clone() for weights in trained]
    rows = []
    for form in ("packed", "padded"):
        for weights, first in zip(trained, begun, strict=True):
            weights.data.copy_(first)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_steps(bench, Path(folder), name, form, model, config, examples, setup))
    return rows


def _steps(
    bench: Bench, folder: Path, name: str, form: str, model: Any, config: Any, examples: Sequence[Any], setup: Any
) -> Row:
    from peft.helpers import disable_input_dtype_casting

    from trainers import Lineage
    from trainers.objectives import objective_of
    from trainers.training import Job, plan
    from trainers.training.loop import JobTrainer
    from trainers.training.packing import packed

    job = Job(folder=folder, config=config, examples=list(examples), lineage=Lineage())
    objective = objective_of(config, examples)
    setup = setup._replace(why_padded=None if form == "packed" else "asked for")
    model.zero_grad(set_to_none=True)
    bench.clear()
    with ExitStack() as stack:
        if form == "packed":
            stack.enter_context(packed(model.get_base_model(), setup.attention))
        if setup.dtype is torch.bfloat16:
            stack.enter_context(disable_input_dtype_casting(model))
        trainer = JobTrainer.of(job, job.examples, objective.prepare(examples), objective, model, setup, None)
        clock = _clock(bench)
        trainer.watch.cost = math.inf  # no checkpoints meanwhile
        trainer.add_callback(clock)
        trainer.go()
    batches = plan(len(examples), config.batch_size, config.epochs, config.seed)[1 : len(clock.times)]
    measured = [examples[index] for batch in batches for index in batch]
    sizes = [(len(example), sum(map(bool, example.weights))) for example in measured]
    seconds = clock.times[-1] - clock.times[0]
    longest = sum(len(batch) * max(len(examples[index]) for index in batch) for batch in batches)
    row = {
        "model": bench.title(name),
        "form": form,
        "attention": setup.attention,
        "dtype": str(setup.dtype).removeprefix("torch."),
        "steps": len(batches),
        "tokens_per_second": sum(length for length, _ in sizes) / seconds,
        "padding": 1 - sum(length for length, _ in sizes) / longest,
        "peak_gib": bench.peak_memory(),
        "at_once": trainer.footprint.examples,
        "recomputed": trainer.footprint.checkpointing,
        "loss": trainer.state.log_history[0]["loss"],
    }
    return of_peak(bench, row, useful_work(bench.config(name).to_dict(), config.rank, sizes) / seconds)


def _clock(bench: Bench) -> Any:
    """A callback that keeps when each step was done, and ends the training once there was time enough."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.times.append(bench.settle())
            enough = len(self.times) > 2 and self.times[-1] - self.times[0] > bench.size.seconds
            control.should_training_stop |= enough

    return Clock()
