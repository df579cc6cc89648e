"""One system of `benchmarks/training.py` in a process of its own, which takes a step whenever it is told to.

    PYTHON -P benchmarks/training_workers.py SYSTEM FOLDER

SYSTEM is "ours", "trl-steps" or "trl-episodes"; FOLDER holds settings.json, examples.jsonl and, for ours, the job. It
may run in another virtual environment than the benchmark: TRL's needs trl, torch, transformers and peft alone. With
`-P` this folder is not searched for imports: `memory` is the package.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Pace:
    """Speaks with the benchmark: a line out after each step, a line in before the next."""

    def __init__(self) -> None:
        # What libraries print must not mix with what is told.
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.wall = self.cpu = 0.0

    def tell(self, **facts: Any) -> None:
        """Send one line."""
        print(json.dumps(facts), file=self.out, flush=True)

    def wait(self) -> None:
        """Return when the next step may begin, with the clocks at its start."""
        sys.stdin.readline()
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def begin(self) -> None:
        """Everything is loaded."""
        self.tell(ready=True)
        self.wait()

    def step(self, tokens: int) -> None:
        """A step over `tokens` tokens that carry loss is done."""
        self.settle()
        self.tell(wall=time.perf_counter() - self.wall, cpu=time.process_time() - self.cpu, tokens=tokens)
        self.wait()

    def settle(self) -> None:
        """Wait until an accelerator has done what it was given."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def done(self, adapter: Path) -> None:
        """The adapter is written; says how much memory an accelerator needed at most, in bytes."""
        import torch

        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        self.tell(adapter=str(adapter), peak=peak)


def ours(pace: Pace, folder: Path, settings: dict[str, Any]) -> None:
    """A job as `python -m trainers.job` runs it; only its progress is listened to."""
    from trainers import job
    from trainers.training import Watch, plan

    made = job.load(folder / "job")
    config = made.config
    batches = plan(len(made.examples), config.batch_size, config.epochs, config.seed)
    tokens = [sum(sum(map(bool, made.examples[index].weights)) for index in batch) for batch in batches]
    begin = Watch.on_train_begin

    def begun(self: Any, *arguments: Any, **more: Any) -> None:
        pace.begin()
        begin(self, *arguments, **more)

    Watch.on_train_begin = begun  # type: ignore[method-assign]
    outcome = job.run(folder / "job", progress=lambda done, total, metrics: pace.step(tokens[done - 1]))
    pace.done(outcome.adapter)


def trl(pace: Pace, folder: Path, settings: dict[str, Any], *, steps: bool) -> None:
    """TRL's SFTTrainer on whole episodes with loss on the actions alone, or on each step with its history as prompt."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(settings["threads"])
    examples = [json.loads(line) for line in (folder / "examples.jsonl").read_bytes().splitlines()]
    rows = [row for example in examples for row in (per_step(example) if steps else [whole(example)])]
    # As many optimizer steps a pass as ours, with as many sequences at once as ours has episodes.
    at_once = settings["batch"]
    passes = -(-len(rows) // at_once)
    accumulated = -(-passes // -(-len(examples) // settings["batch"]))
    bfloat16 = settings["dtype"] == "bfloat16"
    config = SFTConfig(
        output_dir=str(folder / ("trl-steps" if steps else "trl-episodes")),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=settings["passes"],
        learning_rate=settings["learning_rate"],
        warmup_steps=settings["warmup"],
        lr_scheduler_type="linear",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=settings["seed"],
        bf16=bfloat16,
        # Their default recomputes activations, a third more work, which this model's memory does not ask for.
        gradient_checkpointing=False,
        # Lengths that go together waste little on padding.
        train_sampling_strategy="group_by_length",
        use_cpu=settings["device"] == "cpu",
        dataloader_pin_memory=settings["device"] != "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )

    class Counting(SFTTrainer):  # type: ignore[misc]
        seen = 0

        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **more: Any) -> Any:
            self.seen += int((inputs["labels"][:, 1:] != -100).sum())
            return super().compute_loss(model, inputs, *arguments, **more)

    class Paced(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **more: Any) -> None:
            pace.begin()

        def on_step_end(self, *_: Any, **more: Any) -> None:
            pace.step(trainer.seen)
            trainer.seen = 0

    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(
            settings["base"],
            dtype=torch.bfloat16 if bfloat16 else torch.float32,
            attn_implementation=settings["attention"],
        ),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(settings["base"]),
        peft_config=LoraConfig(
            r=settings["rank"], lora_alpha=settings["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[Paced()],
    )
    trainer.train()
    adapter = Path(config.output_dir) / "adapter"
    trainer.model.save_pretrained(str(adapter))
    pace.done(adapter)


def whole(example: dict[str, Any]) -> dict[str, list[int]]:
    """An episode as TRL's pre-tokenised row: labels where the agent chose."""
    ids = example["token_ids"]
    return {"input_ids": ids, "labels": [id if weight else -100 for id, weight in zip(ids, example["weights"])]}  # noqa: B905


def per_step(example: dict[str, Any]) -> list[dict[str, list[int]]]:
    """A row for each step: all that came before as the prompt, the action as the completion."""
    row = whole(example)
    chosen = [label != -100 for label in row["labels"]] + [False]
    starts = [at for at in range(len(chosen) - 1) if chosen[at] and not chosen[at - 1]]
    ends = [at for at in range(1, len(chosen)) if chosen[at - 1] and not chosen[at]]
    return [
        {"input_ids": row["input_ids"][:end], "labels": [-100] * start + row["labels"][start:end]}
        for start, end in zip(starts, ends)  # noqa: B905
    ]


def main() -> None:
    """Run one system to its end."""
    system, folder = sys.argv[1], Path(sys.argv[2])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    pace = Pace()
    if system == "ours":
        ours(pace, folder, settings)
    else:
        trl(pace, folder, settings, steps=system == "trl-steps")


if __name__ == "__main__":
    main()
