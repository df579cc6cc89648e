"""Jobs that travel: a job folder for another machine, and its results taken over when they come back.

The folder that is sent holds the job without any path of this machine, the code that trains (`code/`), and a README
with what to install and what to run. Nothing in a folder that comes back is ever executed: its examples and settings
must be those that were sent, its results those that were sealed, and only then are they copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from memory.text import loaded
from trainers import job as jobs
from trainers.adapters.files import check_files
from trainers.errors import BadAdapter, JobChanged, JobExists, NotAJob
from trainers.training import seal as seals
from trainers.training.code import PACKAGES
from trainers.training.disk import room_on_disk
from trainers.training.job_data import Job, JobResult

CODE = "code"
"""The folder, inside the job's, with the source of the two packages that training needs."""

NEEDS = ("torch>=2.6,<3", "transformers>=5.23,<6", "peft>=0.21", "pydantic>=2.12,<3")
"""What has to be installed where a job is trained."""

README = """\
# {name}: a training job

{job.id}: LoRA of rank {config.rank} on {config.base.name}, {examples} examples, objective `{config.objective}`.

## What it needs

Linux and Python 3.11 or newer, with four packages. Where there is a GPU, install the PyTorch that fits it first
(pytorch.org says how).

    pip install {needs}

And the base model: a folder with exactly the weights that this job was made for; others are refused. Copy it from the
machine that made this job. SHA-256 over its safetensors files, in the order of their names:

    {config.base.fingerprint}

## Train

In this folder:

    PYTHONPATH={code} python -m trainers.job . --base FOLDER-OF-THE-BASE

`{code}/` is the part of AgentLab that trains, in the version that made this job; it is not installed, and `python -m
trainers.job --help` says more. A GPU is used if there is one. After Ctrl-C or a kill the same command goes on from the
last checkpoint. `--report-to tensorboard` (wandb, mlflow, trackio) shows the curves. In `job.json` what concerns this
machine may be changed ({machine}); a folder in
which anything else was changed is not taken back.

## What comes back

`adapter/`, `canary.json`, `report.json` and `done`, which seals them. Copy this folder back (`{code}/` and `lock` can
stay behind) and, on the machine that made it, with the same lab:

    agentlab distill --import FOLDER

That checks that nothing was changed on the way, measures that the adapter scores there as it did here (the canary),
and lets held-out games decide whether it serves.
"""


def export(source: Path | str, folder: Path | str) -> Job:
    """Write the job in `source` to `folder`, for another machine: all of it or nothing. Again, it changes nothing.

    Raises NotAJob if `source` is none, JobExists if `folder` holds anything else, DiskFull.
    """
    job, folder = jobs.load(source), Path(folder).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not _exported(folder, job):
            raise JobExists(
                f"{folder} holds something else than an export of {job.id}; an export never writes over anything; "
                "choose a new folder"
            )
        return jobs.load(folder)
    beside = folder.with_name(folder.name + ".exporting")
    config = job.config.model_copy(update={"base": job.config.base.model_copy(update={"path": None})})
    with room_on_disk(folder):
        shutil.rmtree(beside, ignore_errors=True)
        jobs.create(beside, config, job.examples, job.lineage)
        for package in PACKAGES:
            place = Path(__file__).resolve().parents[1] / package
            shutil.copytree(place, beside / CODE / package, ignore=shutil.ignore_patterns("__pycache__"))
        (beside / "README.md").write_text(_readme(job), encoding="utf-8")
        os.replace(beside, folder)
    return jobs.load(folder)


def _exported(folder: Path, job: Job) -> bool:
    """Whether `folder` is an export of this job."""
    try:
        there = jobs.load(folder)
    except NotAJob:
        return False
    return (there.id, there.lineage) == (job.id, job.lineage) and (folder / CODE).is_dir()


def _readme(job: Job) -> str:
    return README.format(
        name=job.lineage.round or job.id,
        config=job.config,
        job=job,
        examples=len(job.examples),
        machine=", ".join(f"`{name}`" for name in jobs.MACHINE),
        needs=" ".join(f'"{need}"' for need in NEEDS),
        code=CODE,
    )


def check(folder: Path | str, job: Job) -> JobResult:
    """The results in `folder`, a copy of `job` that was trained elsewhere, checked without loading them.

    Raises NotAJob if it is no job or not trained to its end, JobChanged if its examples or settings are not those of
    `job` (those of `trainers.job.MACHINE` need not be), BadAdapter if the results are not those that were sealed or do
    not belong to this job.
    """
    folder = Path(folder)
    came = jobs.load(folder)
    if came.id != job.id:
        what = "its examples" if came.examples != job.examples else "its settings"
        raise JobChanged(
            f"{folder} is not the job that was exported ({came.id}, not {job.id}); {what} were changed; export it "
            "again and train it as it is"
        )
    if not came.done:
        raise NotAJob(f"{folder} is not trained to its end; an adapter comes out last; run its job first")
    seals.check(folder, *came.ids)
    outcome = jobs.result(folder)
    assert outcome is not None
    check_files(outcome.adapter)
    _belongs(outcome, job)
    return outcome


def _belongs(outcome: JobResult, job: Job) -> None:
    """Raise BadAdapter unless adapter and canary can have come out of this job."""
    taught = (example.taught for example in job.examples)
    if outcome.canary.base != job.config.base.fingerprint:
        reason = "its canary is of another base model"
    elif not any(example and example.token_ids == outcome.canary.token_ids for example in taught):
        reason = "its canary is no text of this job"
    else:
        try:
            config = dict(loaded((outcome.adapter / "adapter_config.json").read_bytes()))
        except (TypeError, ValueError):
            config = {}
        wanted = {
            "peft_type": "LORA",
            "r": job.config.rank,
            "lora_alpha": job.config.alpha,
            "base_model_name_or_path": job.config.base.name,
        }
        wrong = [f"{name} is {config.get(name)!r}" for name, value in wanted.items() if config.get(name) != value]
        if not wrong:
            return
        reason = f"in its adapter_config.json {', '.join(wrong)}"
    raise BadAdapter(f"{outcome.adapter} did not come out of {job.id}; {reason}; copy its own results, or train again")


def take_over(folder: Path | str, job: Job) -> JobResult:
    """Copy the checked results in `folder` into the folder of `job`, as if it had been trained there; again, nothing.

    Raises what `check` does, JobExists if the job has other results already, JobBusy if it is being trained, DiskFull.
    """
    came = check(folder, job)
    with jobs.only_one(job.folder), room_on_disk(job.folder):
        ours, theirs = seals.read(job.folder), seals.read(Path(folder))
        assert theirs is not None
        if not job.done:
            jobs.publish(job, lambda place: _copy(came.adapter, place), came.canary, came.report)
        elif ours is None or ours.files != theirs.files:
            raise JobExists(
                f"{job.folder.name} has its results already, others than those in {folder}; a round gets one adapter; "
                "make a new round for another"
            )
    taken = jobs.result(job.folder)
    assert taken is not None
    return taken


def _copy(adapter: Path, place: Path) -> None:
    place.mkdir()
    # What else lies there (another program's files, links) has no business in a lab.
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, place / name)
