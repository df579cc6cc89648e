"""A training job is a folder: put data and settings in, run it anywhere, get an adapter out.

    job.json  examples.jsonl  lineage.json          what to do, written once by `create`
    checkpoints/  curve.jsonl                       where a killed run goes on, and its losses, a line a step
    adapter/  canary.json  report.json  done        what came out, and its seal

`python -m trainers.job FOLDER [--base PATH]` needs only torch, transformers, peft and pydantic, so a folder can be
carried to a machine with a GPU and back. Stopped by Ctrl-C, the same command goes on with the next step; killed at any
instant, it goes on from the last checkpoint, which is some ten seconds old; on a CPU the adapter is the same to the
byte. `accelerate launch -m trainers.job FOLDER` trains it with several processes,
which divide each batch among them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from memory.text import read_lines
from trainers.config import MACHINE, JobConfig
from trainers.data.records import Record, check, read
from trainers.errors import (
    BadExample,
    JobBusy,
    JobExists,
    MissingDependency,
    NotAJob,
    NothingToTrain,
    TrainersError,
)
from trainers.lineage import Lineage
from trainers.training import reporting
from trainers.training import seal as seals
from trainers.training.canary import Canary
from trainers.training.disk import room_on_disk
from trainers.training.job_data import Job, JobResult, Progress, Report
from trainers.training.weights import locate


def create(folder: Path | str, config: JobConfig, examples: Sequence[Record], lineage: Lineage | None = None) -> Job:
    """Write a job folder: all of it or nothing. Doing it again with the same content changes nothing.

    Raises NothingToTrain if no token carries loss, BadExample if the objective learns from other records, JobExists if
    the folder holds another job.
    """
    folder = Path(folder)
    check(config.objective, examples)
    job = Job(folder=folder, config=config, examples=list(examples), lineage=lineage or Lineage())
    if folder.is_dir() and any(folder.iterdir()):
        present = load(folder)
        if present.id != job.id:
            raise JobExists(f"{folder} holds another training job; a job is never changed; choose another folder")
        return present
    beside = folder.with_name(folder.name + ".partial")
    with room_on_disk(folder):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        (beside / "job.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (beside / "lineage.json").write_text(job.lineage.model_dump_json(indent=1) + "\n", encoding="utf-8")
        lines = "".join(example.model_dump_json() + "\n" for example in examples)
        (beside / "examples.jsonl").write_text(lines, encoding="utf-8")
        os.replace(beside, folder)
    return job


def load(folder: Path | str) -> Job:
    """Read a job folder. Raises NotAJob if it is none, or one with nothing to learn."""
    folder = Path(folder)
    try:
        config = JobConfig.model_validate_json((folder / "job.json").read_bytes())
        lineage = Lineage.model_validate_json((folder / "lineage.json").read_bytes())
        examples = [read(config.objective, line) for line in read_lines(folder / "examples.jsonl")]
        check(config.objective, examples)
    except (OSError, ValueError, BadExample, NothingToTrain) as error:
        reason = " ".join(str(error).split())[:200]
        raise NotAJob(f"{folder} is not a training job; {reason}; make one with trainers.job.create") from error
    return Job(folder=folder, config=config, examples=examples, lineage=lineage)


def settings(folder: Path | str) -> JobConfig:
    """The settings of the job in `folder`. Raises NotAJob."""
    try:
        return JobConfig.model_validate_json((Path(folder) / "job.json").read_bytes())
    except (OSError, ValueError) as error:
        raise NotAJob(f"{folder} is not a training job; {' '.join(str(error).split())[:200]}") from error


def records(folder: Path | str, first: int = 0, count: int = 1) -> Iterator[Record]:
    """`count` records of a job from the `first` one on, counted from 0, without the others being read into memory.

    Raises NotAJob.
    """
    folder, objective = Path(folder), settings(folder).objective
    try:
        with (folder / "examples.jsonl").open("rb") as stream:
            for line in islice((line for line in stream if line.strip()), first, first + count):
                yield read(objective, line.decode("utf-8"))
    except (OSError, ValueError) as error:
        raise NotAJob(f"{folder} is not a training job; {' '.join(str(error).split())[:200]}") from error


def result(folder: Path | str) -> JobResult | None:
    """What came out of the job in `folder`; None while it is not done."""
    folder = Path(folder)
    if not (folder / seals.NAME).is_file():
        return None
    try:
        report = Report.model_validate_json((folder / "report.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise NotAJob(
            f"{folder} lost its report; {str(error).splitlines()[0]}; delete `done` and run it again"
        ) from error
    return JobResult(adapter=folder / "adapter", canary=Canary.load(folder / "canary.json"), report=report)


def run(
    folder: Path | str,
    *,
    base: Path | str | None = None,
    progress: Progress | None = None,
    **machine: Any,
) -> JobResult:
    """Train the job in `folder`, or go on where an earlier run was killed; a finished job is not trained again.

    `base` is the folder of the base model, where it is not at the place that the job remembers, and `machine` are
    settings of MACHINE for this run alone. The random state and the number of threads of the calling process are given
    back as they were.

    Where several processes were launched (by accelerate or torchrun), each calls this, and the first one writes.

    Raises NotAJob, JobBusy, MissingBase, WrongBase, MissingDependency, UnknownReporter, DiskFull, OutOfMemory,
    TrainingDiverged.
    """
    job = load(folder)
    if not machine.keys() <= set(MACHINE):
        raise TypeError(f"only {', '.join(MACHINE)} can be set for a run, not {', '.join(machine)}")
    job.config = JobConfig.model_validate({**job.config.model_dump(), **machine})
    with room_on_disk(job.folder), only_one(job.folder) if _first_process() else nullcontext():
        finished = result(job.folder)
        if finished is not None:
            # Who was killed after the seal has not come to this.
            shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
            return finished
        weights = locate(job.config.base, base)
        reporting.check_reporters(job.config.report_to)
        try:
            from trainers.training.footprint import give_back
            from trainers.training.training import train, wait_for_all
        except ImportError as error:
            raise MissingDependency(
                f"training needs torch, transformers and peft; {error}; pip install torch transformers peft accelerate"
            ) from error
        trained = train(job, weights, progress)
        if _first_process():
            publish(job, trained.save_adapter, trained.canary, trained.report)
        wait_for_all()
        del trained
        give_back()
    published = result(job.folder)
    assert published is not None
    return published


def _first_process() -> bool:
    """Whether this process is the only one, or the first of those that were launched together."""
    return int(os.environ.get("RANK", "0")) == 0


def publish(job: Job, save_adapter: Callable[[Path], None], canary: Canary, report: Report) -> None:
    """Write the results beside, move them to their places, and only then seal them, which says that the job is done."""
    folder = job.folder
    beside = folder / "adapter.partial"
    shutil.rmtree(beside, ignore_errors=True)
    save_adapter(beside)
    canary.save(beside / "canary.json")
    # An earlier run may have been killed between here and `done`.
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    os.replace(beside, folder / "adapter")
    canary.save(folder / "canary.json")
    (folder / "report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    marker = folder / f"{seals.NAME}.partial"
    marker.write_text(seals.of(folder, job.id).model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(marker, folder / seals.NAME)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the job for this process. The kernel lets go of the lock when the process dies, however it dies."""
    import fcntl

    with open(folder / "lock", "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise JobBusy(
                f"{folder} is being trained by process {holder}; two would spoil each other's checkpoints; "
                "wait for it or stop it"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m trainers.job`. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.job",
        description="Train a job folder, or go on with it.",
        epilog=f"What concerns this machine alone ({', '.join(MACHINE)}) may also be changed in job.json: the adapter "
        "is still taken back where the job was made. Any other change makes it another job.",
    )
    parser.add_argument("folder", type=Path, help="the job folder")
    parser.add_argument("--base", type=Path, help="folder of the base model, if it is not where the job remembers it")
    parser.add_argument(
        "--report-to",
        action="append",
        metavar="NAME",
        help=f"where to send the curves: {', '.join(reporting.REPORTERS)}; can be given several times",
    )
    parser.add_argument("--device", choices=["auto", "cpu"], help="auto takes an accelerator if there is one")
    options: Any = parser.parse_args(arguments)
    machine = {name: getattr(options, name) for name in ("report_to", "device") if getattr(options, name)}
    try:
        outcome = run(options.folder, base=options.base, progress=reporting.Ticker(), **machine)
    except TrainersError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one was", file=sys.stderr)
        return 130
    if "RANK" in os.environ and "trainers.training.training" in sys.modules:
        sys.modules["trainers.training.training"].leave()
    if not _first_process():
        return 0
    report = outcome.report
    print(
        f"{outcome.adapter}: {report.steps} steps in {report.seconds:.0f} s ({report.tokens_per_second:.0f} tokens/s), "
        f"loss {report.losses[0]:.3f} -> {report.losses[-1]:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
