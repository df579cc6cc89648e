"""What a lab records of one adapter, and of each change of the one that serves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from memory.records import content_id, now
from trainers.gate.gate import GateResult
from trainers.lineage import Lineage

AdapterStatus = Literal["candidate", "promoted", "rejected", "retired"]


class AdapterRecord(BaseModel):
    """One adapter. `base` is the name of its base model, `fingerprint` that of the base's weights.

    `path` is relative to the lab folder. `weights` is the SHA-256 of its weights' file, by which a swapped folder is
    known. `gate` is None until it stood at one; `forced` says that it was promoted without having passed. `job` is the
    id of the job that it came out of, `settings` are that job's but the base, `training` the numbers of its report
    with the first and the last loss; these are empty where no job is known.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    parent: str | None = None
    base: str
    fingerprint: str
    status: AdapterStatus = "candidate"
    path: str
    weights: str = ""
    lineage: Lineage = Field(default_factory=Lineage)
    job: str = ""
    settings: dict[str, Any] = {}
    training: dict[str, Any] = {}
    gate: GateResult | None = None
    forced: bool = False
    created_at: str = Field(default_factory=now)


class Change(BaseModel):
    """A change of the serving adapter; None is the base model."""

    at: str
    event: Literal["promoted", "rolled back"]
    serving: str | None
    before: str | None


def identity(fingerprint: str, weights: str) -> str:
    """The id of the adapter with these weights (SHA-256 of their file) for the base with this fingerprint."""
    return content_id("adapter", fingerprint, weights)
