"""Forgetting what was not used for long (Zhong et al. 2024, MemoryBank, §3.3).

Retention after t days is exp(−t / (5 S)), where the strength S is 1 + the number of recalls and t counts from the last
recall or writing. (The authors' program computes exp(−t / 5 · S), which forgets strong memories faster.) What falls
below a threshold is taken out of use; it can be restored, and what was restored is not forgotten a second time.
Pinned items stay, and so does what served an episode that was won, and what stands above the raw tier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from memory.consolidating.job import Action, Job, Method, Proposal
from memory.recalls import RecallCount
from memory.records import Reflection

DAYS = 5.0
FADED = "faded"


def retention(days: float, recalls: int) -> float:
    """What is retained `days` after the last recall or writing of something that was recalled so many times."""
    return math.exp(-max(0.0, days) / (DAYS * (1 + recalls)))


@dataclass(frozen=True)
class Forget(Action):
    """Take the only one of `items` out of use."""

    method: ClassVar[Method] = "forget"

    def apply(self, job: Job) -> bool:
        with job.database.operation("forget", self.items[0]):
            found = job.database.reflection(self.items[0])
            use, last = job.database.recall_counts(self.items), job.database.last_recalled(self.items)
            if _kept(job, found, use[found.id], last.get(found.id)) is None:
                return False
            job.change(found, FADED, status="forgotten")
        return True


def plan(job: Job, gone: frozenset[str] = frozenset()) -> Proposal:
    """What has faded; `gone` are those that the plan takes out of use otherwise."""
    if not job.config.forget_below:
        return Proposal([])
    # What is younger cannot have faded, however often it was recalled.
    youngest = timedelta(days=-DAYS * math.log(job.config.forget_below))
    before = (datetime.fromisoformat(job.now()) - youngest).isoformat(timespec="microseconds")
    notes = [note for note in job.notes(tier="raw", pinned=0) if note.created_at <= before and note.id not in gone]
    use = job.database.recall_counts([note.id for note in notes])
    idle = [note for note in notes if not use[note.id].n_won]
    last = job.database.last_recalled([note.id for note in idle])
    found = job.database.load_reflections([note.number for note in idle])
    actions: list[Action] = []
    for note in idle:
        kept = _kept(job, found[note.number], use[note.id], last.get(note.id))
        if kept is not None:
            recalls = f"recalled {use[note.id].n} times without a win" if use[note.id].n else "never recalled"
            actions.append(Forget((note.id,), f"{recalls}, retention {kept:.4f}"))
    return Proposal(actions)


def _kept(job: Job, found: Reflection, use: RecallCount, recalled: str | None) -> float | None:
    """The retention of what may be forgotten, and should be; None for the rest."""
    if found.status != "active" or found.pinned or found.tier != "raw" or use.n_won:
        return None
    last = max(datetime.fromisoformat(at) for at in (found.created_at, found.updated_at, recalled) if at)
    days = (datetime.fromisoformat(job.now()) - last).total_seconds() / 86400
    kept = retention(days, use.n)
    if kept >= job.config.forget_below:
        return None
    again = job.database.execute(
        "SELECT 1 FROM reflection_versions JOIN reflections ON number = reflection WHERE id = ? AND change = ? LIMIT 1",
        (found.id, FADED),
    )
    return None if again else kept
