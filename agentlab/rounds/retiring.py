"""The last node: memory that the adapter in use no longer needs is retired; it comes back when that is rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.playing import actor_of
from agentlab.agent.rollout import rollout_of
from agentlab.agent.tasks import make_tasks
from agentlab.rounds.report import RoundReport, save

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments import Task

HALF = 0.5
"""How much of what is recalled is held out while a promoted adapter is watched: evidence comes soonest at one half."""


def retire(workspace: Workspace, report: RoundReport) -> str:
    """Retire the reflections whose measured uplift has gone under the adapter that serves, or name them (`dry-run`)."""
    from memory.credit import Retirement

    config, adapter = report.config, workspace.serving()
    if config.retire == "off" or adapter is None or report.retired:
        return "done"
    if report.promoted and config.retire_games and workspace.config.credit:
        watch(workspace, report, adapter, make_tasks(config.envs, "train", config.retire_seeds(report.number)))
    retirement = Retirement(workspace.database, adapter, config.retirement, namespace=workspace.config.namespace)
    # With the report in one transaction: after a kill, what was retired would not be found again.
    with workspace.database.transaction():
        found = retirement.run(dry_run=config.retire == "dry-run")
        report.retired = {verdict.reflection: verdict.reason for verdict in found}
        save(workspace, report)
    return "done"


def rollback(workspace: Workspace) -> tuple[str | None, list[str]]:
    """Let the adapter serve that served before, and bring back what was retired for the sake of the present one.

    Returns what serves now (None: the base), and the ids of the reflections. Raises NothingToRollBack.
    """
    from memory.credit import Retirement

    left = workspace.serving()
    with workspace.database.transaction():
        serving = workspace.adapters.rollback()
        back = Retirement(workspace.database, left, namespace=workspace.config.namespace).undo() if left else []
    return serving, back


def watch(workspace: Workspace, report: RoundReport, adapter: str, tasks: list[Task]) -> None:
    """Play train games with `adapter` and the memory that the base has, some of it held out at random; nothing is
    learned from them but what each reflection changes."""
    from dataclasses import replace

    recall = RecallConfig(text=workspace.config.recall_text, exemplars=workspace.config.recall_exemplars)
    arm = Arm(f"{adapter} + all memory", adapter=adapter, recall=recall, actor=actor_of(workspace))
    stage = "watching what memory still changes"
    credit = replace(workspace.memory.credit.config, hold_out=HALF, max_cost=1.0)
    rollout = rollout_of(workspace, f"{report.id}-retire", arm, reflectors=(), credit=credit)
    workspace.progress.start(stage, len(tasks))
    try:
        rollout.play(tasks, arm, again=True, progress=lambda result: workspace.progress.advance(stage))
    finally:
        rollout.close()
        workspace.progress.finish(stage)
