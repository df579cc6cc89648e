"""A run: tasks that are played and learned from, under one name, with what was known when it began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentlab import tracing
from agentlab.agent.arms import Arm, arm_of, default_arm
from agentlab.agent.rollout import TaskResult, rollout_of
from agentlab.agent.tasks import make_tasks
from agentlab.experiments.consolidation import consolidate_when_due
from agentlab.experiments.results import Results
from memory.records import content_id
from memory.store import Filter

if TYPE_CHECKING:
    from agentlab.reflectors.base import Reflector
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split


def run(
    workspace: Workspace,
    envs: str | Sequence[str],
    *,
    split: Split = "train",
    seeds: Sequence[int] = range(10),
    trials: int = 3,
    arm: str | Arm | None = None,
    name: str | None = None,
    reflectors: Sequence[str | Reflector] | None = None,
    again: bool = False,
    hold_out_tools: bool = True,
) -> Results:
    """Play tasks, and keep what is lived and learned: see `Lab.run`. Who measures an arm holds out no tools."""
    chosen = arm if isinstance(arm, Arm) else arm_of(workspace, default_arm(workspace) if arm is None else arm)
    tasks = make_tasks(envs, split, seeds)
    if name is None:
        who = [one if isinstance(one, str) else one.name for one in reflectors or ()]
        who += ["none"] if reflectors is not None and not who else []
        name = content_id(f"run-{split}", chosen.identity, *(task.id for task in tasks), *who)
        say_what_is_known(workspace, name)
    rollout = rollout_of(workspace, name, chosen, reflectors=reflectors, refining=True, hold_out_tools=hold_out_tools)
    stage = f"{chosen.name}, {split}"
    workspace.progress.start(stage, len(tasks))
    won = 0

    causes = set[str]()

    def on_result(result: TaskResult) -> None:
        nonlocal won
        won += bool(result.won_within(trials))
        for error in {trial.error for trial in result.trials if trial.error} - causes:
            causes.add(error)  # each cause once, however many episodes it ends
            workspace.progress.say(f"{result.task.id} errored: {error}")
        workspace.progress.advance(stage, 1, f"{won} won")

    told = {"run": name, "arm": chosen.name, "adapter": chosen.adapter, "split": split, "tasks": len(tasks)}
    try:
        with tracing.workflow("run", told) as span:
            results = rollout.play(tasks, chosen, trials=trials, again=again, progress=on_result)
            span.note({"won": won, "errored": sum(result.errored for result in results)})
    finally:
        rollout.close()
        workspace.progress.finish(stage)
    if split == "train" and chosen.recall is not None and chosen.recall.credit and workspace.config.credit:
        _review(workspace)
    # Not after held-out games: the arms of an evaluation must all find the same memory.
    if split == "train" and workspace.config.consolidate_every:
        consolidate_when_due(workspace)
    return Results(results)


def say_what_is_known(workspace: Workspace, run: str) -> None:
    """Say it, if something was learned since a run began: it goes on without."""
    begun = workspace.database.journal.get("run", run)
    newest = workspace.database.reflections.find(
        Filter(split="train", exclude_run=run, namespace=workspace.config.namespace, status=None), newest=True, limit=1
    )
    if begun is not None and newest and newest[0].created_at > begun["at"]:
        workspace.progress.say(
            f"Going on with '{run}' as it began on {begun['at'][:16]} UTC: what was learned since does not serve "
            "it. Under another name (--name) it begins anew."
        )


def _review(workspace: Workspace) -> None:
    """Bench what is credibly harmful by now, vouch for what came from outside and credibly helps, and say so."""
    credit = workspace.memory.credit
    # What an origin brought is judged as one first: its items have all the less evidence each.
    for one in credit.probation.review():
        other = "restore" if one.outcome == "benched" else "bench"
        workspace.progress.say(f"{len(one.reflections)} are {one.change}; `agentlab memory {other}` overrules that.")
    for verdict in credit.review():
        workspace.progress.say(f"{verdict.reflection} is {verdict.change}; `agentlab memory restore` overrules that.")
