"""A round whose training happens on another machine: sent away as a folder, and gone on with when that comes back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.errors import AgentLabError
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.graph import run_round
from agentlab.rounds.report import RoundReport, reports
from agentlab.rounds.training import SENT
from memory.records import now

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from trainers.job import Job, JobResult

TRAIN = "train"


def export_round(workspace: Workspace, config: RoundConfig, folder: Path | str) -> RoundReport:
    """Collect and select, unless the unfinished round has, and write its job to `folder` for another machine.

    The round waits there: `import_round` goes on with it. Doing it again changes nothing.

    Raises AgentLabError if the unfinished round is trained already, what `run_round` does, and JobExists, before
    anything is collected, if `folder` holds anything else.
    """
    from trainers import job, transport

    _check_target(workspace, Path(folder).resolve())
    report = run_round(workspace, config, until=TRAIN)
    if report.ended:  # one that was killed at its very end, and is told only now; it is not the next one
        report = run_round(workspace, config, until=TRAIN)
    place = job_folder(workspace, report)
    if report.config.society:
        raise AgentLabError(
            f"{report.id} trains a society, which plays and trains in one part and cannot be trained elsewhere; finish "
            "it with `agentlab rounds run`, or give it up with `agentlab rounds abandon`."
        )
    if report.phase != TRAIN or job.load(place).done:
        raise AgentLabError(
            f"{report.id} is trained already, so there is nothing to train elsewhere; finish it with `agentlab rounds "
            "run`, or give it up with `agentlab rounds abandon`."
        )
    sent = transport.export(place, folder)
    workspace.database.journal.put(SENT, report.id, {"job": sent.id, "at": now()})
    return report


def _check_target(workspace: Workspace, folder: Path) -> None:
    """Raise JobExists unless `folder` is new or empty, or holds a job of the round that is unfinished."""
    from trainers import job
    from trainers.errors import JobExists, NotAJob

    near = next(place for place in (folder, *folder.parents) if place.exists())
    if near.is_dir() and (near != folder or not any(folder.iterdir())):
        return
    waiting = next((report.id for report in reports(workspace) if not report.ended), None)
    with suppress(NotAJob):
        if waiting is not None and job.load(folder).lineage.round == waiting:
            return
    raise JobExists(
        f"{near} is {'a folder that holds something else' if near.is_dir() else 'a file'}, so no round can be exported "
        f"to {folder}; an export never writes over anything; choose a new folder"
    )


def import_round(workspace: Workspace, folder: Path | str) -> RoundReport:
    """Take over the adapter that was trained in `folder`, an exported round, and go on with that round: the gate, and
    what follows. Doing it again, also after a kill, goes on where it stopped, and in the end changes nothing.

    Raises AgentLabError if it is no round of this lab, or one that was given up, what `trainers.transport.check` does
    if anything was changed or does not belong, and CanaryFailed if the adapter does not score here as it did there.
    """
    from trainers import job, transport

    workspace.must_write()
    report = _round_of(workspace, job.load(folder), Path(folder))
    here = job.load(job_folder(workspace, report))
    outcome = transport.check(folder, here)
    if not here.done:
        _hear(workspace, here, outcome)
    transport.take_over(folder, here)
    if report.ended:
        # It may have been killed before it could say so; it says so now.
        workspace.checkpointer.delete_thread(report.id)
        return report
    return run_round(workspace, report.config)


def job_folder(workspace: Workspace, report: RoundReport) -> Path:
    """Where the job of a round lies."""
    return workspace.folder / "jobs" / report.id


def _round_of(workspace: Workspace, came: Job, folder: Path) -> RoundReport:
    """The round of this lab that `came` is the job of."""
    report = next((report for report in reports(workspace) if report.id == came.lineage.round), None)
    if report is None or not (job_folder(workspace, report) / "job.json").is_file():
        raise AgentLabError(
            f"{folder} is the job of {came.lineage.round or 'no round'}, which this lab does not have; import it into "
            "the lab that exported it (--lab)."
        )
    if report.phase in ("failed", "abandoned"):
        raise AgentLabError(
            f"{report.id} was {report.phase}, so its adapter can no longer be gated; `agentlab distill` begins a new "
            "round."
        )
    return report


def _hear(workspace: Workspace, here: Job, outcome: JobResult) -> None:
    """Have this machine's engine load the adapter: its canary must score as its trainer recorded.

    Raises WrongBase, CanaryFailed, BadAdapter if the weights do not even fit the base.
    """
    from agentlab.engines.base import Adapter
    from trainers.adapters import identity
    from trainers.training import locate, sha256

    locate(here.config.base, workspace.model_folder)
    name = identity(here.config.base.fingerprint, sha256(outcome.adapter / "adapter_model.safetensors"))
    workspace.model().with_adapter(Adapter(name, outcome.adapter))
    if outcome.canary.discriminates:
        workspace.progress.say("The adapter scores here as it did where it was trained.")
    else:
        workspace.progress.say("The adapter changed next to nothing: its canary cannot tell it from the base.")
