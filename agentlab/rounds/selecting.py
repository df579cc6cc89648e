"""Selecting: freeze what is trained on, as a job folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NoReturn

from agentlab.errors import AgentLabError
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.held_out import held_out
from agentlab.rounds.judging import unread
from agentlab.rounds.learned_calls import learned
from agentlab.rounds.report import RoundReport, save
from trainers import JobConfig

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


def select(workspace: Workspace, report: RoundReport) -> str:
    """Choose among all episodes of the lab, and write them with the settings of the training into `jobs/`.

    Raises AgentLabError, and ends the round as failed, if there is nothing to train on or a selector lacks something.
    """
    from agentlab.rounds.calling import with_calls, writes_calls
    from agentlab.rounds.records import records
    from memory.errors import UnknownEpisode
    from trainers import job
    from trainers.errors import BadTexts, CannotSelect, NothingToTrain
    from trainers.training import code_version

    config = report.config
    try:
        made = records(workspace, report, held_out(workspace, report))
    except (BadTexts, CannotSelect, UnknownEpisode) as error:
        fail(workspace, report, f"{report.id} cannot select: {error}.")
    report.left_out = dict(made.left_out)
    report.short_of = made.short_of
    report.judged |= made.judged
    report.kl_episodes = {env: len(ids) for env, ids in made.kl_episodes.items()}
    if writes_calls(config):
        chosen, called = set(made.episodes), with_calls(workspace, report)
        report.tools = learned(
            {id: (one.episode, one.calls) for id, one in called.items() if id in chosen and one.episode is not None}
        )
    report.selected = {env: made.selected[env] for env in dict.fromkeys([*config.envs, *made.selected])}
    if not made.episodes and (silent := unread(report)):
        fail(workspace, report, f"{report.id} found no pair to train on: {silent}")
    if not made.episodes:
        why = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none was collected"
        what = "pair of a better and a worse episode" if config.training.in_pairs else "success"
        fail(
            workspace,
            report,
            f"{report.id} found no {what} to train on ({why}); give it more seeds or trials, or easier environments.",
        )
    settings = job_config(workspace, config)
    lineage = job.Lineage(
        round=report.id,
        parent=report.incumbent,
        episodes=list(dict.fromkeys(made.episodes)),
        reflections=list(dict.fromkeys(made.reflections)),
        kl_episodes=[id for ids in made.kl_episodes.values() for id in ids],
        seeds=[config.seed],
        code_version=code_version(),
    )
    folder = workspace.folder / "jobs" / report.id
    # Nothing was trained yet: one that a kill left may hold what was chosen before more had been won.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        job.create(folder, settings, made.records, lineage)
    except NothingToTrain as error:
        fail(workspace, report, f"{report.id} has nothing to train on: {error}.")
    return "train"


def job_config(workspace: Workspace, config: RoundConfig, **more: Any) -> JobConfig:
    """The settings of a round's job."""
    from trainers.training import reference

    return JobConfig(
        base=reference(workspace.config.model, workspace.model_folder),
        seed=config.seed,
        dtype=workspace.config.dtype,
        threads=workspace.threads,
        **config.training.model_dump(exclude={"max_tokens"}),
        **more,
    )


def fail(workspace: Workspace, report: RoundReport, why: str) -> NoReturn:
    """End the round for good, and say why."""
    report.note = f"{why} What was lived is kept."
    save(workspace, report, "failed")
    raise AgentLabError(report.note)
