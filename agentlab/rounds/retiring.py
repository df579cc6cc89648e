"""The last node: memory that the adapter in use no longer needs is retired; it comes back when that is rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.arms import Arm, RecallConfig
from agentlab.rounds.report import RoundReport, save

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from environments import Task

HALF = 0.5
"""How much of what is recalled is withheld while a promoted adapter is watched: evidence comes soonest at one half."""


def retire(lab: Lab, report: RoundReport) -> str:
    """Retire the reflections whose measured uplift has gone under the adapter that serves, or name them (`dry-run`)."""
    from agentlab.tasks import make_tasks
    from memory.retirement import Retirement

    config, adapter = report.config, lab.serving()
    if config.retire == "off" or adapter is None or report.retired:
        return "done"
    if report.promoted and config.retire_games and lab.config.credit:
        watch(lab, report, adapter, make_tasks(config.envs, "train", config.retire_seeds(report.number)))
    retirement = Retirement(lab.database, adapter, config.retirement, namespace=lab.config.namespace)
    # With the report in one transaction: after a kill, what was retired would not be found again.
    with lab.database.transaction():
        found = retirement.run(dry_run=config.retire == "dry-run")
        report.retired = {verdict.reflection: verdict.reason for verdict in found}
        save(lab, report)
    return "done"


def rollback(lab: Lab) -> tuple[str | None, list[str]]:
    """Let the adapter serve that served before, and bring back what was retired for the sake of the present one.

    Returns what serves now (None: the base), and the ids of the reflections. Raises NothingToRollBack.
    """
    from memory.retirement import Retirement

    left = lab.serving()
    with lab.database.transaction():
        serving = lab.adapters.rollback()
        back = Retirement(lab.database, left, namespace=lab.config.namespace).undo() if left else []
    return serving, back


def watch(lab: Lab, report: RoundReport, adapter: str, tasks: list[Task]) -> None:
    """Play train games with `adapter` and the memory that the base has, some of it withheld by lot; nothing is learned
    from them but what each reflection changes."""
    from dataclasses import replace

    from agentlab.recall import Recaller, counter

    recall = RecallConfig(text=lab.config.recall_text, exemplars=lab.config.recall_exemplars)
    arm = Arm(f"{adapter} + all memory", adapter=adapter, recall=recall)
    stage = "watching what memory still changes"
    rollout = lab.rollout(f"{report.id}-retire", arm, reflectors=())
    assert rollout.recaller is not None
    rollout.recaller = Recaller(
        lab.memory,
        rollout.run,
        rollout.recaller.frozen_at,
        count_tokens=counter(rollout.engine),
        credit=replace(lab.memory.credit.config, withhold=HALF, max_cost=1.0),
    )
    lab.progress.start(stage, len(tasks))
    try:
        rollout.play(tasks, arm, again=True, progress=lambda result: lab.progress.advance(stage))
    finally:
        rollout.close()
        lab.progress.finish(stage)
