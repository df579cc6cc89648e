"""What transformers' Trainer is told, whoever plays or has played what it trains on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from trainers.config import JobConfig
from trainers.training.setup import Setup


def usual(config: JobConfig, setup: Setup, folder: Path, steps: int) -> dict[str, Any]:
    """The arguments that do not depend on the method, for so many steps of the job in `folder`."""
    return {
        "output_dir": str(folder / "checkpoints"),
        "remove_unused_columns": False,
        "learning_rate": config.learning_rate,
        "warmup_steps": math.ceil(config.warmup_ratio * steps),
        "lr_scheduler_type": "linear",
        "weight_decay": 0.0,
        "max_grad_norm": config.clip,
        "optim": "adamw_torch",
        "seed": config.seed,
        "use_cpu": setup.device == "cpu",
        "save_strategy": "steps",
        "save_steps": config.save_every,
        # The newest may be half written when the process is killed, so the one before it must stay.
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": config.report_to or "none",
    }


def on_one_device(arguments: TrainingArguments) -> None:
    """More than one would be used through nn.DataParallel, which cuts batches apart under the loss."""
    arguments._setup_devices  # noqa: B018 - a cached property that counts the devices
    arguments._n_gpu = 1
