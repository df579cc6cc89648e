"""Revising: failures that share their beginning with a success become revisions (Yuan et al. 2025, Agent-R).

They are kept in the journal, which is no place for episodes: nothing but the training of their round ever sees them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from agentlab.rounds.report import RoundReport
from memory.records import Episode

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.search.revision import Revision
    from environments import Task

AT_ONCE = 10
"""Tasks that are revised between two entries into the journal; they share an environment."""


def revise(lab: Lab, report: RoundReport) -> str:
    """Revise the failures of every task that was won and failed; what runs and wins is trained on in this round."""
    from agentlab.search.tasks import revise_tasks

    config = report.config.revision
    alpha = config.alphas.at(report.number)
    done = lab.database.journal_items(_scope(report))
    waiting = _tasks(lab, report)
    stage, total = "revising failures", sum(map(len, waiting.values()))
    lab.progress.start(stage, total)
    try:
        for tasks in waiting.values():
            for first in range(0, len(tasks), AT_ONCE):
                part = tasks[first : first + AT_ONCE]
                if part[0].id not in done:
                    found = revise_tasks(
                        lab,
                        None,
                        part,
                        judge=config.judge,
                        adapter=report.incumbent,
                        alpha=alpha,
                        beta=config.beta,
                        budget=config.budget,
                    )
                    kept = {"revisions": [_written(revision) for revision in found]}
                    lab.database.journal_put(_scope(report), part[0].id, kept)
                lab.progress.advance(stage, len(part))
    finally:
        lab.progress.finish(stage)
    report.revised = {"alpha": alpha, "tasks": total, "revisions": len(revisions(lab, report))}
    return "select"


def revisions(lab: Lab, report: RoundReport) -> list[Revision]:
    """The revisions that this round has made."""
    parts = lab.database.journal_items(_scope(report))
    return [_read(written) for _, part in sorted(parts.items()) for written in part["revisions"]]


def _tasks(lab: Lab, report: RoundReport) -> dict[str, list[Task]]:
    """The train tasks that were both won and not, by environment: only there is anything to revise."""
    from environments import Task

    found: dict[str, list[Task]] = {}
    for env in report.config.envs:
        ends: dict[int, set[bool]] = defaultdict(set)
        for row in lab.database.episodes(env=env, split="train"):
            if row.status != "errored":
                ends[row.seed].add(row.won)
        found[env] = [Task(env=env, split="train", seed=seed) for seed, won in sorted(ends.items()) if len(won) == 2]
    return found


def _scope(report: RoundReport) -> str:
    return f"revise|{report.id}"


def _written(revision: Revision) -> dict[str, Any]:
    return {
        "episode": revision.episode.model_dump(mode="json"),
        "step_weights": revision.step_weights,
        "good": revision.good,
        "bad": revision.bad,
    }


def _read(written: dict[str, Any]) -> Revision:
    from agentlab.search.revision import Revision

    return Revision(**{**written, "episode": Episode.model_validate(written["episode"])})
