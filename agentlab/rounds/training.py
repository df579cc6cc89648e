"""Training: run the job, and register the adapter that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab.engines.base import GivingWay
from agentlab.rounds.report import RoundReport

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from trainers import Report

SENT = "exported round"
"""The journal's scope for rounds that were sent to be trained elsewhere."""


def train(workspace: Workspace, report: RoundReport) -> str:
    """Train, or go on from the last checkpoint; the adapter becomes a candidate."""
    from trainers import job

    folder = workspace.folder / "jobs" / report.id
    if not folder.exists():  # a purge took what it was to learn
        return "select"
    if workspace.database.journal.get(SENT, report.id) and not job.load(folder).done:
        workspace.progress.say(
            f"{report.id} was exported to be trained elsewhere; now it is trained here. Ctrl-C stops that, and "
            "`agentlab distill --import` brings in what was trained there."
        )
    report.training = noted(trained(workspace, folder, "training"))
    report.adapter = workspace.adapters.register(folder).id
    return "monitor"


def trained(workspace: Workspace, folder: Path, stage: str) -> Report:
    """Run a job, or go on with it; the report of one that is done. Its steps are a stage of the progress."""
    from trainers import job

    started = False

    def on_result(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal started
        if not started:
            workspace.progress.start(stage, total)
            workspace.progress.advance(stage, done - 1)
            started = True
        workspace.progress.advance(stage, 1, f"loss {metrics['loss']:.3f}")

    if isinstance(workspace.engine, GivingWay):
        workspace.engine.make_room()
    outcome = job.run(folder, base=workspace.model_folder, progress=on_result)
    if started:
        workspace.progress.finish(stage)
    return outcome.report


def noted(done: Report) -> dict[str, Any]:
    """What the report of a round says of its training."""
    losses = done.losses
    found = {
        "examples": done.examples,
        "steps": done.steps,
        "tokens": done.tokens,
        "first_loss": round(losses[0], 4),
        "last_loss": round(sum(losses[-10:]) / len(losses[-10:]), 4),
        "seconds": round(done.seconds, 1),
        "tokens_per_second": round(done.tokens_per_second, 1),
    }
    for name, values in done.measures.items():
        found[name] = round(sum(values[-10:]) / len(values[-10:]), 4)
    return found
