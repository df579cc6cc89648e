"""The seal of a finished job: which job its results belong to, and the hash of each of them.

A job may be trained on another machine and its folder copied there and back. The seal, written last, tells whether what
came back is what was trained: a file that was cut short, left from another job or changed by hand breaks it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trainers.errors import BadAdapter

NAME = "done"
"""The file that holds the seal. A job is finished when it is there."""

SEALED = (
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/canary.json",
    "canary.json",
    "report.json",
)


class Seal(BaseModel):
    """The id of a job, and the SHA-256 of its results by their names in the job folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    files: dict[str, str]


def of(folder: Path, job: str) -> Seal:
    """The seal of the results that lie in the folder of this job. Raises OSError if one is missing."""
    return Seal(job=job, files={name: sha256(folder / name) for name in SEALED})


def read(folder: Path) -> Seal | None:
    """The seal in a job folder; None if the job is not finished, or its mark is no seal."""
    try:
        return Seal.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def check(folder: Path, job: str, *former: str) -> Seal:
    """Raise BadAdapter unless the folder holds a seal of this job and each result is as it was sealed.

    `former` are the ids that the job had in earlier versions.
    """
    seal = read(folder)
    if seal is None or seal.job not in (job, *former):
        whose = "have no seal" if seal is None else f"are sealed as those of {seal.job}"
        raise BadAdapter(
            f"the results in {folder} {whose}, not as those of {job}; they may come from another job; copy the whole "
            "folder again, or train it again"
        )
    for name in SEALED:
        if not (folder / name).is_file():
            raise BadAdapter(f"{folder} has no {name}; it did not come back whole; copy it again")
        if seal.files.get(name) != sha256(folder / name):
            raise BadAdapter(
                f"{name} in {folder} is not what {job} wrote there; it was swapped, changed or cut short; copy it "
                "again, or train it again"
            )
    return seal


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
