"""The stored episodes that a round may learn from, as rows: which of them need not be read at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentlab.rounds.config import RoundConfig
from agentlab.rounds.ladder import learned_from
from agentlab.rounds.report import RoundReport
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from memory.store import EpisodeRow


def rows_of(workspace: Workspace, config: RoundConfig) -> list[EpisodeRow]:
    """All episodes of the train fold of the environments that a round learns from."""
    return [
        row
        for env in learned_from(config)
        for row in workspace.database.episodes.find(EpisodeFilter(env=env, split="train"))
    ]


def fitting(rows: Sequence[EpisodeRow], report: RoundReport) -> tuple[list[EpisodeRow], Counter[str]]:
    """The rows without those whose episodes need not be read: of a success and its refined form only the latter is
    trained on. Where what was recalled counts, or who played, it is the success as it was played, and all are read."""
    left_out: Counter[str] = Counter()
    if report.config.learn_from == "recalled" or report.config.training.objective == "soft_distill":
        return list(rows), left_out
    refined = {row.minimised_from for row in rows if row.status == "won" and row.minimised_from}
    left_out["minimised"] = sum(row.id in refined for row in rows)
    return [row for row in rows if row.id not in refined], +left_out


def successes(workspace: Workspace, report: RoundReport) -> list[EpisodeRow]:
    """The successes that this round may learn from; of one and its refined form only the latter."""
    rows, _ = fitting(rows_of(workspace, report.config), report)
    return [row for row in rows if row.status == "won"]
