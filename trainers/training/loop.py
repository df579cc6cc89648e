"""transformers' Trainer as a job uses it: our losses, our batches, one process or several.

The loop, its checkpoints and their loading are the Trainer's. Ours is what one step does: the batch is divided among
the processes, each runs its share in as many parts as its memory asks for, and what comes of it is added up. So the
effective batch, and with it the weights, depend neither on the memory nor on the number of processes.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import peft
import torch
import transformers
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from trainers.data.examples import Example
from trainers.data.records import Record
from trainers.errors import TrainingDiverged
from trainers.objectives.base import Item, Objective
from trainers.objectives.losses import Batch, collate, example_logprobs
from trainers.training import checkpoints, code, divergence, footprint
from trainers.training.arguments import on_one_device, usual
from trainers.training.batches import plan, shares
from trainers.training.curve import Curve, Point
from trainers.training.footprint import Footprint
from trainers.training.job_data import Job, Progress, Report
from trainers.training.setup import Setup

APART = 10.0
"""Seconds, at least, between two checkpoints that are written because time has passed."""

SHARE = 0.02
"""Of the time, at most, that goes into those."""


class JobTrainer(Trainer):
    """The training of one job; no pickle of its arguments is written."""

    job: Job
    records: list[Record]
    objective: Objective
    setup: Setup
    watch: Watch
    footprint: Footprint
    measured: dict[str, float]

    @classmethod
    def of(
        cls,
        job: Job,
        records: list[Record],
        items: list[Item],
        objective: Objective,
        model: peft.PeftModel,
        setup: Setup,
        progress: Progress | None,
    ) -> JobTrainer:
        """The trainer of `job`; `items` are what the objective made of `records`, one each."""
        config = job.config
        batches = plan(len(records), config.batch_size, config.epochs, config.seed)
        tokens = [sum(len(records[index]) for index in batch) for batch in batches]
        small = Footprint(config.batch_size, config.checkpointing == "on", config.checkpointing == "auto")
        watch = Watch(progress, tokens, small)
        arguments = TrainingArguments(
            **usual(config, setup, job.folder, len(batches)),
            # The plan already holds all batches of all epochs in order.
            per_device_train_batch_size=1,
            num_train_epochs=1,
        )
        on_one_device(arguments)
        data = [[items[index] for index in batch] for batch in batches]
        trainer = cls(model=model, args=arguments, train_dataset=data, callbacks=[watch])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.job, trainer.records, trainer.objective = job, records, objective
        trainer.setup, trainer.watch, trainer.footprint, trainer.measured = setup, watch, small, {}
        return trainer

    def go(self) -> None:
        """Train to the end, from the last whole checkpoint if there is one. Ctrl-C costs no step that was finished."""
        last = checkpoints.last_whole(Path(self.args.output_dir), tidy=self.args.process_index == 0)
        if last is not None:
            self.watch.recall(checkpoints.facts(last))
        self.footprint.apply(self.model)
        if self.args.process_index == 0:
            self.watch.curve = Curve(self.job.folder)
        try:
            self.train(resume_from_checkpoint=str(last) if last else None)
        except KeyboardInterrupt:
            if self.watch.unsaved and self.args.process_index == 0:
                self._save_checkpoint(self.model, None)
                self.watch.on_save(self.args, self.state, self.control)
            raise

    def get_train_dataloader(self) -> Any:
        """The whole batch for every process, in order, as the plan has it."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=lambda batches: {"items": batches[0]})

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of one step's whole batch, whose gradient then lies in the LoRA weights of every process."""
        items: list[Item] = inputs["items"]
        # Past a data-parallel wrapper, which would add up gradients at every pass and waits for all processes.
        bare = self.accelerator.unwrap_model(model)
        bare.train()
        lengths = [len(item.record) for item in items]
        share = shares(lengths, self.args.world_size)[self.args.process_index]
        sums = self._run([items[index] for index in share], self.objective.mass(items), bare)
        if self.args.world_size > 1:
            _add_up(sums, bare)
        loss, *measures = sums.tolist()
        self.measured = dict(zip(self.objective.measures, measures, strict=True))
        earlier = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        place = self.job.folder if self.args.process_index == 0 else None
        try:
            divergence.check(loss, earlier, self.job.config.spike, [item.record for item in items], place)
        except TrainingDiverged:
            # Whoever ends first has the others stopped; the batch must have been written by then.
            self.accelerator.wait_for_everyone()
            raise
        return sums[0]

    def _run(self, items: list[Item], mass: float, model: Any) -> torch.Tensor:
        """Loss and measures of one process's share, as parts of those of a batch of this mass; their gradient is kept.

        Begins again in smaller parts whenever memory runs out.
        """
        while True:
            # What dropout drops follows from the step, so that neither a kill nor a second try changes it.
            torch.manual_seed((self.job.config.seed << 24) + self.state.global_step)
            try:
                return self._accumulate(items, mass, model)
            except (RuntimeError, MemoryError) as error:
                if not footprint.ran_out(error):
                    raise
            # Here the error is gone, and with it what its traceback held.
            self.footprint.shrink(model, len(items))

    def _accumulate(self, items: list[Item], mass: float, model: Any) -> torch.Tensor:
        sums = torch.zeros(1 + len(self.objective.measures), device=self.args.device)
        for start in range(0, len(items), self.footprint.examples):
            part = items[start : start + self.footprint.examples]
            share = self.objective.mass(part) / mass
            inputs = self._prepare_inputs(self.objective.collate(part))
            with self.setup.precision():
                loss, measures = self.objective.cost(model, inputs, model)
            self.accelerator.backward(loss * share)
            values = [loss, *(measures[name] for name in self.objective.measures)]
            sums += share * torch.stack([value.detach().float() for value in values])
        return sums

    def score(self, example: Example, *, adapter: bool) -> float:
        """The summed log-probability of the chosen tokens, with or without the adapter."""
        model: Any = self.model
        model.eval()
        batch = Batch(*(tensor.to(self.args.device) for tensor in collate([example])))
        with torch.no_grad(), self.setup.precision(), ExitStack() as stack:
            if not adapter:
                stack.enter_context(model.disable_adapter())
            return float(example_logprobs(model, batch))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the objective measured beside the loss."""
        if "loss" in logs:
            logs |= self.measured
        super().log(logs, start_time)

    def report(self) -> Report:
        """What was done, once training has ended."""
        config, seconds = self.job.config, self.watch.spent()
        tokens = sum(self.watch.tokens)
        steps = [entry for entry in self.state.log_history if "loss" in entry]
        return Report(
            steps=self.state.global_step,
            examples=len(self.records),
            tokens=tokens,
            chosen_tokens=config.epochs * sum(end - start for r in self.records for start, end in r.spans),
            losses=[entry["loss"] for entry in steps],
            measures={name: [entry[name] for entry in steps] for name in self.objective.measures},
            seconds=round(seconds, 3),
            tokens_per_second=round(tokens / seconds, 1) if seconds else 0.0,
            resumed=self.watch.resumed,
            device=self.setup.device,
            dtype=str(self.setup.dtype).removeprefix("torch."),
            attention=self.setup.attention,
            packed=self.setup.why_padded is None,
            why_padded=self.setup.why_padded or "",
            threads=config.threads,
            processes=self.args.world_size,
            examples_at_once=self.footprint.examples,
            checkpointing=self.footprint.checkpointing,
            versions={module.__name__: str(module.__version__) for module in (torch, transformers, peft)}
            | {"trainers": code.digest()},
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)

    def _save_rng_state(self, output_dir: str) -> None:
        # Of the other processes nothing is random that a step does not seed; one writes, so one mark tells all.
        if self.args.process_index == 0:
            super()._save_rng_state(output_dir)


def _add_up(sums: torch.Tensor, model: Any) -> None:
    """Add up, over all processes, the sums and the gradients of what is trained, in place."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        # A process without a share has none.
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    gradients = [parameter.grad for parameter in trained]
    flat = torch.cat([sums, *(gradient.flatten() for gradient in gradients)])
    torch.distributed.all_reduce(flat)
    parts = flat.split([len(sums), *(gradient.numel() for gradient in gradients)])
    for whole, part in zip([sums, *gradients], parts, strict=True):
        whole.copy_(part.view_as(whole))


class Watch(TrainerCallback):
    """Counts time, tells the progress, has checkpoints written as time passes, and marks them as whole.

    `unsaved` says that what lies in memory is the state after a whole step that no checkpoint holds.
    """

    def __init__(self, progress: Progress | None, tokens: list[int], footprint: Footprint) -> None:
        self.progress = progress
        self.tokens = tokens
        self.footprint = footprint
        self.seconds = 0.0
        self.resumed = 0
        self.began: float | None = None
        self.first_step = 0
        self.unsaved = False
        self.stepped = self.saved = 0.0
        self.cost = 0.0
        self.curve: Curve | None = None

    def spent(self) -> float:
        """Seconds of training, those of earlier runs up to their last checkpoint included."""
        return self.seconds + (monotonic() - self.began if self.began is not None else 0.0)

    def recall(self, facts: dict[str, Any]) -> None:
        """Go on from what was kept with a checkpoint."""
        self.seconds, self.resumed = facts["seconds"], facts["resumed"] + 1
        self.footprint.examples, self.footprint.checkpointing = facts["examples_at_once"], facts["checkpointing"]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.began = self.saved = monotonic()
        self.first_step = state.global_step
        if self.curve is not None:
            self.curve.begin(after=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds, self.began = self.spent(), None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here to the log of the step, weights, optimizer and counters belong to different steps."""
        self.unsaved = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint if the last one is long ago, measured by what one costs."""
        self.stepped = monotonic()
        due = self.stepped - self.saved >= max(APART, self.cost / SHARE)
        control.should_save |= _of_first(due, args)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Tell the progress, and add to the curve."""
        if "loss" not in (logs or {}):
            return
        self.unsaved = True
        if self.curve is not None:
            self.curve.add(_point(logs, state))
        if self.progress is None or self.began is None:
            return
        fresh = sum(self.tokens[self.first_step : state.global_step])
        speed = fresh / max(monotonic() - self.began, 1e-9)
        metrics = {"loss": logs["loss"], "learning_rate": logs["learning_rate"], "tokens_per_second": speed}
        self.progress(state.global_step, state.max_steps, metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint."""
        if state.is_world_process_zero:
            checkpoints.mark(
                Path(args.output_dir) / f"checkpoint-{state.global_step}",
                seconds=self.spent(),
                resumed=self.resumed,
                examples_at_once=self.footprint.examples,
                checkpointing=self.footprint.checkpointing,
            )
        self.saved = monotonic()
        self.cost = self.saved - self.stepped
        self.unsaved = False


def _point(logs: dict[str, float], state: Any) -> Point:
    """What Trainer logs of a step, as a point of the curve; whatever else it logs of itself is left out."""
    own = ("loss", "learning_rate", "grad_norm", "epoch")
    return Point(
        step=state.global_step,
        steps=state.max_steps,
        loss=logs["loss"],
        learning_rate=logs.get("learning_rate"),
        measures={name: value for name, value in logs.items() if name not in own},
    )


def _of_first(answer: bool, args: Any) -> bool:
    """What the first process answers, in every process: their clocks differ, and all have to do the same."""
    if args.world_size == 1:
        return answer
    decision = torch.tensor([float(answer)], device=args.device)
    torch.distributed.broadcast(decision, 0)
    return bool(decision.item())
