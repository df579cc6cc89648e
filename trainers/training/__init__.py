"""Training: a job as data, the steps that make an adapter of it, and what proves that it is the right one.

The base and its fingerprint, batches without padding, memory found by trying, checkpoints, the canary and the seal.
`trainers.job` is the command over all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.doors import lazy

if TYPE_CHECKING:
    from trainers.training.attention import LAYER_KINDS, layer_kinds, layer_window, register_attention
    from trainers.training.batches import plan
    from trainers.training.canary import Canary
    from trainers.training.code import code_version
    from trainers.training.curve import Point, read_curve
    from trainers.training.footprint import ran_out
    from trainers.training.groups import Group
    from trainers.training.job_data import Job, JobResult, Report
    from trainers.training.loop import Watch
    from trainers.training.on_policy import check_trl, learn
    from trainers.training.proof import check_model
    from trainers.training.reporting import check_reporters
    from trainers.training.seal import sha256
    from trainers.training.setup import resolve
    from trainers.training.weights import fingerprint, flaw, load_model, locate, reference

__all__ = [
    # A job and its base
    "Job",
    "JobResult",
    "Report",
    "code_version",
    "fingerprint",
    "flaw",
    "load_model",
    "locate",
    "reference",
    # How it goes
    "Point",
    "read_curve",
    # How it plays for itself
    "Group",
    "check_trl",
    "learn",
    # What it runs on
    "Watch",
    "check_model",
    "check_reporters",
    "plan",
    "ran_out",
    "resolve",
    # How models attend
    "LAYER_KINDS",
    "layer_kinds",
    "layer_window",
    "register_attention",
    # What proves its results
    "Canary",
    "sha256",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.training.job_data": ("Job", "JobResult", "Report"),
        "trainers.training.weights": ("fingerprint", "flaw", "load_model", "locate", "reference"),
        "trainers.training.code": ("code_version",),
        "trainers.training.curve": ("Point", "read_curve"),
        "trainers.training.setup": ("resolve",),
        "trainers.training.attention": ("LAYER_KINDS", "layer_kinds", "layer_window", "register_attention"),
        "trainers.training.batches": ("plan",),
        "trainers.training.footprint": ("ran_out",),
        "trainers.training.loop": ("Watch",),
        "trainers.training.groups": ("Group",),
        "trainers.training.on_policy": ("check_trl", "learn"),
        "trainers.training.proof": ("check_model",),
        "trainers.training.reporting": ("check_reporters",),
        "trainers.training.canary": ("Canary",),
        "trainers.training.seal": ("sha256",),
    },
)
