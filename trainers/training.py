"""The training of one job with transformers' Trainer and peft. Imported only when training starts, since it is slow.

The loop, its checkpoints and their loading are the Trainer's. Ours are the loss, the order of the batches, and the
mark that tells a whole checkpoint from one that was being written when the process was killed.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from memory.records import content_id
from trainers import baseline, dispatch
from trainers import canary as canaries
from trainers.batches import plan
from trainers.canary import Canary
from trainers.dispatch import Item, Objective
from trainers.errors import TrainingDiverged
from trainers.examples import Example
from trainers.job import Job, JobConfig, Progress, Report
from trainers.objectives import Batch, collate, example_logprobs
from trainers.records import Record

SHORT = 512
"""Up to this many tokens plain attention beats the fused kernel on a CPU; beyond, its square of memory hurts."""

WHOLE = "whole.json"


class Trained(NamedTuple):
    """A trained model, ready to be written."""

    save_adapter: Callable[[Path], None]
    canary: Canary
    report: Report


class Setup(NamedTuple):
    """What `auto` came to on this machine."""

    device: str
    dtype: torch.dtype
    attention: str


def resolve(config: JobConfig, longest: int) -> Setup:
    """Choose device, number format and attention for this machine; `longest` is the longest example in tokens."""
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu"
    if config.dtype == "auto":
        native = torch.cuda.is_bf16_supported() if device == "cuda" else _cpu_computes_bfloat16()
        dtype = torch.bfloat16 if native else torch.float32
    else:
        dtype = getattr(torch, config.dtype)
    attention = config.attention
    if attention == "auto":
        attention = "eager" if device == "cpu" and longest <= SHORT else "sdpa"
    return Setup(device, dtype, attention)


def _cpu_computes_bfloat16() -> bool:
    # Without these instructions bfloat16 is emulated, and slower than float32.
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def train(job: Job, base: Path, progress: Progress | None = None) -> Trained:
    """Train `job` on the base model in folder `base`, from its last whole checkpoint if it has one."""
    examples = [example for example in job.examples if example.spans]
    objective = dispatch.of(job.config)
    setup = resolve(job.config, max(len(example) for example in examples))
    with _process_state(job.config.threads), ExitStack() as stack:
        model = _model(job.config, base, setup)
        if setup.dtype is torch.bfloat16:
            # LoRA weights stay float32; autocast rounds them for each product, instead of peft widening every
            # activation to float32 and back.
            stack.enter_context(disable_input_dtype_casting(model))
        items = objective.prepare(examples)
        if objective.compares:
            items = _with_base(job, objective, items, model, setup)
        trainer = _JobTrainer.of(job, examples, items, objective, model, setup, progress)
        trainer.go()
        _refuse_broken(model)
        canary = canaries.make(
            [taught for example in examples if (taught := example.taught) is not None],
            lambda example: trainer.score(example, adapter=False),
            lambda example: trainer.score(example, adapter=True),
            job.config.base.fingerprint,
        )
        report = trainer.report()
    return Trained(lambda folder: _save_adapter(model, job.config, folder), canary, report)


def _model(config: JobConfig, base: Path, setup: Setup) -> PeftModel:
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=setup.dtype, attn_implementation=setup.attention, local_files_only=True, use_safetensors=True
    ).to(setup.device)
    # The seed governs the initial weights; the data order has its own generator.
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft reads an attribute that transformers is about to rename.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, lora)
    assert isinstance(adapted, PeftModel)
    return adapted


def _precision(setup: Setup) -> Any:
    """The number format of the forward pass."""
    return torch.autocast(setup.device, dtype=torch.bfloat16, enabled=setup.dtype is torch.bfloat16)


def _with_base(job: Job, objective: Objective, items: list[Item], model: PeftModel, setup: Setup) -> list[Item]:
    """The items with what the base makes of them, from the job folder if it was computed there before."""

    def compute() -> baseline.Rows:
        model.eval()
        with _precision(setup), model.disable_adapter():
            return baseline.ask(objective, items, model, setup.device, job.config.batch_size)

    key = content_id("baseline", job.id, *setup, torch.__version__)
    rows = baseline.recall(job.folder / "checkpoints" / "baseline.json", key, len(items), compute)
    return [item._replace(base=row) for item, row in zip(items, rows, strict=True)]


@contextmanager
def _process_state(threads: int) -> Iterator[None]:
    """Give the caller's random states, number of threads and verbosity back as they were."""
    from transformers.utils import logging as noise

    python, array, tensor = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    before = torch.get_num_threads()
    bars, verbosity = noise.is_progress_bar_enabled(), noise.get_verbosity()
    torch.set_num_threads(threads)
    noise.disable_progress_bar()
    noise.set_verbosity_error()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        noise.set_verbosity(verbosity)
        random.setstate(python)
        numpy.random.set_state(array)
        torch.set_rng_state(tensor)
        if bars:
            noise.enable_progress_bar()


def _refuse_broken(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingDiverged(
                f"weight {name} is no longer a number after training; the learning rate is too high for this data; "
                "make a job with a lower learning_rate"
            )


def _save_adapter(model: PeftModel, config: JobConfig, folder: Path) -> None:
    """Write the adapter without anything that differs between machines or runs."""
    # Embeddings are never trained here; "auto" would ask a model hub whether they were resized.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = config.base.name
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class _JobTrainer(Trainer):
    """transformers' Trainer with our loss, our order, and no pickle of its arguments in the checkpoints."""

    job: Job
    examples: list[Record]
    objective: Objective
    setup: Setup
    watch: _Watch
    measured: dict[str, torch.Tensor]

    @classmethod
    def of(
        cls,
        job: Job,
        examples: list[Record],
        items: list[Item],
        objective: Objective,
        model: PeftModel,
        setup: Setup,
        progress: Progress | None,
    ) -> _JobTrainer:
        config = job.config
        batches = plan([len(e) for e in examples], config.batch_size, config.epochs, config.seed)
        data = [[items[index] for index in batch] for batch in batches]
        watch = _Watch(progress, [sum(len(examples[index]) for index in batch) for batch in batches])
        arguments = TrainingArguments(
            output_dir=str(job.folder / "checkpoints"),
            # The plan already holds all batches of all epochs in order.
            per_device_train_batch_size=1,
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            learning_rate=config.learning_rate,
            warmup_steps=math.ceil(config.warmup_ratio * len(batches)),
            lr_scheduler_type="linear",
            weight_decay=0.0,
            max_grad_norm=config.clip,
            optim="adamw_torch",
            seed=config.seed,
            use_cpu=setup.device == "cpu",
            save_strategy="steps",
            save_steps=config.save_every,
            # The newest may be half written when the process is killed, so the one before it must stay.
            save_total_limit=2,
            logging_steps=1,
            logging_nan_inf_filter=False,
            disable_tqdm=True,
            dataloader_pin_memory=setup.device != "cpu",
            report_to=config.report_to or "none",
        )
        # More than one device would be used through nn.DataParallel, which cuts batches apart under the loss.
        arguments._setup_devices  # noqa: B018 - a cached property that counts the devices
        arguments._n_gpu = 1
        trainer = cls(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=lambda batches: objective.collate(batches[0]),
            callbacks=[watch],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.job, trainer.examples, trainer.setup, trainer.watch = job, examples, setup, watch
        trainer.objective, trainer.measured = objective, {}
        return trainer

    def go(self) -> None:
        """Train to the end, from the last whole checkpoint if there is one."""
        last = _last_whole(Path(self.args.output_dir))
        if last is not None:
            mark = json.loads((last / WHOLE).read_text(encoding="utf-8"))
            self.watch.seconds, self.watch.resumed = mark["seconds"], mark["resumed"] + 1
        self.train(resume_from_checkpoint=str(last) if last else None)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        with _precision(self.setup):
            loss, self.measured = self.objective.cost(model, inputs, self.accelerator.unwrap_model(model))
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; the learning rate "
                f"{self.job.config.learning_rate} is too high or the base weights are damaged; "
                "make a job with a lower learning_rate"
            )
        return loss

    def score(self, example: Example, *, adapter: bool) -> float:
        """The summed log-probability of the chosen tokens, with or without the adapter."""
        model: Any = self.model
        model.eval()
        batch = Batch(*(tensor.to(self.setup.device) for tensor in collate([example])))
        with torch.no_grad(), _precision(self.setup), ExitStack() as stack:
            if not adapter:
                stack.enter_context(model.disable_adapter())
            return float(example_logprobs(model, batch))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the objective measured beside the loss."""
        if "loss" in logs:
            logs |= {name: float(value) for name, value in self.measured.items()}
        super().log(logs, start_time)

    def report(self) -> Report:
        config, seconds = self.job.config, self.watch.spent()
        tokens = sum(self.watch.tokens)
        steps = [entry for entry in self.state.log_history if "loss" in entry]
        return Report(
            steps=self.state.global_step,
            examples=len(self.examples),
            tokens=tokens,
            chosen_tokens=config.epochs * sum(end - start for e in self.examples for start, end in e.spans),
            losses=[entry["loss"] for entry in steps],
            measures={name: [entry[name] for entry in steps] for name in self.objective.measures},
            seconds=round(seconds, 3),
            tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
            resumed=self.watch.resumed,
            device=self.setup.device,
            dtype=str(self.setup.dtype).removeprefix("torch."),
            attention=self.setup.attention,
            threads=config.threads,
            versions={module.__name__: str(module.__version__) for module in (torch, transformers, peft)},
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)


class _Watch(TrainerCallback):
    """Counts time, tells the progress, and marks checkpoints as whole."""

    def __init__(self, progress: Progress | None, tokens: list[int]) -> None:
        self.progress = progress
        self.tokens = tokens
        self.seconds = 0.0
        self.resumed = 0
        self.began: float | None = None
        self.first_step = 0

    def spent(self) -> float:
        """Seconds of training, those of earlier runs up to their last checkpoint included."""
        return self.seconds + (time.monotonic() - self.began if self.began is not None else 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.monotonic()
        self.first_step = state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds, self.began = self.spent(), None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.progress is None or "loss" not in (logs or {}) or self.began is None:
            return
        fresh = sum(self.tokens[self.first_step : state.global_step])
        speed = fresh / max(time.monotonic() - self.began, 1e-9)
        metrics = {"loss": logs["loss"], "learning_rate": logs["learning_rate"], "tokens_per_second": speed}
        self.progress(state.global_step, state.max_steps, metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        beside = folder / (WHOLE + ".partial")
        beside.write_text(json.dumps({"seconds": self.spent(), "resumed": self.resumed, "sizes": sizes}))
        os.replace(beside, folder / WHOLE)


def _last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; torn ones are deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    last: Path | None = None
    for checkpoint in found:
        if not _whole(checkpoint):
            shutil.rmtree(checkpoint)
        elif last is None:
            last = checkpoint
    return last


def _whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))["sizes"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False
