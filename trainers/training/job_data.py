"""A training job as data: what its folder holds before it has run, and what it holds after that.

`trainers.job` writes and reads the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from memory.records import content_id
from trainers.config import MACHINE, JobConfig
from trainers.data.records import Record
from trainers.lineage import Lineage
from trainers.training import seal as seals
from trainers.training.canary import Canary

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with steps done, steps in all, and `loss`, `learning_rate`, `tokens_per_second`."""


class Report(BaseModel):
    """What a finished job did. `seconds` is time spent training, over all runs that led to the result.

    `losses` has one value a step, and so has what the objective measures beside it in `measures`: "drift" (nats a token
    above the base, MinorSFT), "kl" (what divergence from the base on Regularised adds to the loss,
    "sft"), "accuracy" (share of pairs in which the better side gained on the worse, DPO) and
    "margin" (by how many nats), "reference" (KTO's z), "divergence" (KL in nats, soft distillation). `tokens` counts
    every token that went through the model. `examples_at_once` is what memory allowed of a process's share of a batch.
    `why_padded` says why batches were not `packed`. `versions` has those of packages, and for "trainers" what
    `trainers.training.code.digest` says of the code itself.
    """

    model_config = ConfigDict(extra="forbid")

    steps: int
    examples: int
    tokens: int
    chosen_tokens: int
    losses: list[float]
    measures: dict[str, list[float]] = {}
    seconds: float
    tokens_per_second: float
    resumed: int
    device: str
    dtype: str
    attention: str
    packed: bool = False
    why_padded: str = ""
    threads: int
    processes: int = 1
    examples_at_once: int = 0
    checkpointing: bool = False
    versions: dict[str, str]


class JobResult(BaseModel):
    """What came out of a job: the folder of the adapter (peft format, safetensors), its canary, the report."""

    adapter: Path
    canary: Canary
    report: Report


class Job(BaseModel):
    """A job folder, read and checked."""

    folder: Path
    config: JobConfig
    examples: list[Record]
    lineage: Lineage

    @property
    def id(self) -> str:
        """Depends on examples and settings only, so that the same work has the same name on every machine."""
        return content_id("job", self._settings, *self.examples)

    @property
    def _settings(self) -> dict[str, Any]:
        # Where the base lies and what machine trains say nothing about what is learned.
        return self.config.model_dump(
            mode="json", exclude_defaults=True, exclude={"base": {"path"}, **dict.fromkeys(MACHINE, True)}
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Its id, and those that earlier versions gave it: an exported job is sealed by the version that made it."""
        usual = {name: JobConfig.model_fields[name].default for name in MACHINE}
        settings = self.config.model_copy(update=usual).model_dump_json(exclude={"base": {"path"}, "on_policy": True})
        text = "\x1f".join([settings, *(example.model_dump_json() for example in self.examples)])
        named = [example.model_dump(mode="json", exclude_defaults=True) for example in self.examples]
        for fields in named:
            if "reference" in fields:
                fields["elsewhere"] = fields.pop("reference")
        return (
            self.id,
            content_id("job", self._settings, *named),
            f"job-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}",
        )

    @property
    def done(self) -> bool:
        """True once adapter, canary and report are all there."""
        return (self.folder / seals.NAME).is_file()
