"""Revising: failures that share their beginning with a success become revisions (Yuan et al. 2025, Agent-R).

They are kept in the journal, which is no place for episodes: nothing but the training of their round ever sees them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from agentlab.failures import Streak
from agentlab.rounds.calling import writes_calls
from agentlab.rounds.ladder import learned_from
from agentlab.rounds.report import RoundReport, reports
from memory.records import Episode
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.search.revision import Revision
    from agentlab.workspace.workspace import Workspace
    from environments import Task
    from memory.store import EpisodeRow

AT_ONCE = 10
"""Tasks that are revised, and entered into the journal, together; they share an environment."""


def revise(workspace: Workspace, report: RoundReport) -> str:
    """Revise the failures of every task that was also played well, by the alpha of this round; the revisions that come
    as far as that asks for are trained on in this round. A task where the environment or the engine fails is revised
    once more, and again when this is called again. Raises RunFailed where the engine fails in task after task."""
    alpha = report.config.revision.alphas.at(iteration(workspace, report))
    entries = workspace.database.journal.items(_scope(report))
    done = {id for id, entry in entries.items() if "error" not in entry}
    waiting = _tasks(workspace, report, alpha)
    stage, total, streak = "revising failures", sum(map(len, waiting.values())), Streak()
    workspace.progress.start(stage, total)
    try:
        for tasks in waiting.values():
            todo = [task for task in tasks if task.id not in done]
            workspace.progress.advance(stage, len(tasks) - len(todo))
            for first in range(0, len(todo), AT_ONCE):
                part = todo[first : first + AT_ONCE]
                failed = _revise(workspace, report, [task for task in part if task.id not in entries], alpha, streak)
                # What failed before says nothing new about the engine, so that it is not counted again.
                _revise(workspace, report, [task for task in part if task.id in {*entries, *failed}], alpha)
                workspace.progress.advance(stage, len(part))
    finally:
        workspace.progress.finish(stage)
    report.revised = {"alpha": alpha, "tasks": total, "revisions": len(revisions(workspace, report))}
    return "call" if writes_calls(report.config) else "select"


def _revise(
    workspace: Workspace, report: RoundReport, tasks: list[Task], alpha: float, streak: Streak | None = None
) -> dict[str, str]:
    """Revise some tasks and enter them into the journal, what failed with its error. Returns these errors, by task."""
    from agentlab.search.tasks import revise_tasks

    config, failed = report.config.revision, dict[str, str]()
    found = revise_tasks(
        workspace,
        None,
        tasks,
        judge=config.judge,
        adapter=report.incumbent,
        alpha=alpha,
        beta=config.beta,
        budget=config.budget,
        failed=failed,
        streak=streak,
    )
    with workspace.database.transaction():
        for task in tasks:
            entry: dict[str, Any] = {"revisions": [_as_stored(one) for one in found if one.episode.task_id == task.id]}
            if task.id in failed:
                entry["error"] = failed[task.id]
            workspace.database.journal.put(_scope(report), task.id, entry)
    return failed


def revisions(workspace: Workspace, report: RoundReport) -> list[Revision]:
    """The revisions that this round has made."""
    entries = workspace.database.journal.items(_scope(report))
    found = [_read(written) for _, entry in sorted(entries.items()) for written in entry["revisions"]]
    # An entry by an older version holds several tasks under the first of them; what came twice is taken once.
    return list({revision.episode.id: revision for revision in found}.values())


def iteration(workspace: Workspace, report: RoundReport) -> int:
    """Which iteration of Agent-R this round is: 1 more than the earlier rounds that revised and came to their end."""
    earlier = (one for one in reports(workspace) if one.number < report.number)
    return 1 + sum(one.config.revise and one.phase == "done" for one in earlier)


def _tasks(workspace: Workspace, report: RoundReport, alpha: float) -> dict[str, list[Task]]:
    """The train tasks of which one end is good by `alpha` and another is worth less by over beta, by environment: only
    there is anything to revise."""
    from agentlab.search.pairs import is_good
    from agentlab.search.tree import worth
    from environments import Task

    beta = report.config.revision.beta
    found: dict[str, list[Task]] = {}
    for env in learned_from(report.config):
        ends: dict[int, list[EpisodeRow]] = defaultdict(list)
        for row in workspace.database.episodes.find(EpisodeFilter(env=env, split="train")):
            if row.status != "errored":
                ends[row.seed].append(row)
        found[env] = [
            Task(env=env, split="train", seed=seed)
            for seed, rows in sorted(ends.items())
            if (good := [worth(row) for row in rows if is_good(row, alpha)])
            and max(good) - min(map(worth, rows)) > beta
        ]
    return found


def _scope(report: RoundReport) -> str:
    return f"revise|{report.id}"


def _as_stored(revision: Revision) -> dict[str, Any]:
    return {
        "episode": revision.episode.model_dump(mode="json"),
        "step_weights": revision.step_weights,
        "good": revision.good,
        "bad": revision.bad,
    }


def _read(written: dict[str, Any]) -> Revision:
    from agentlab.search.revision import Revision

    return Revision(**{**written, "episode": Episode.model_validate(written["episode"])})
