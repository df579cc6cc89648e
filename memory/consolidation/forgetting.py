"""Forgetting what was not used for long (Zhong et al. 2024, MemoryBank, §3.3).

Retention after t days is exp(−t / (5 S)), where the strength S is 1 + the number of recalls and t counts from the last
recall or writing. (The authors' program computes exp(−t / 5 · S), which forgets strong memories faster.) What falls
below a threshold is taken out of use; it can be restored, and what was restored is not forgotten a second time.
Pinned items stay, and so does what stands above the raw tier.

What helps stays too. Where lots were ever drawn over an item, it helps if its uplift is credibly above 0 (see
`memory.credit`): that a game was won in which it was recalled says little, since that may have been an easy game. Only
where no lot was ever drawn, so that nothing else is known, a won episode keeps what served it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from memory.consolidation.job import Action, Job, Method, Proposal
from memory.records import Reflection
from memory.store.filters import Filter
from memory.store.recalls import RecallCount

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
        with job.database.operations.record("forget", self.items[0]):
            found = job.database.reflections.get(self.items[0])
            recalls, last = job.database.recalls.counts(self.items), job.database.recalls.last(self.items)
            if (
                _helps(job, recalls)[found.id]
                or _retention(job, found, recalls[found.id].n, last.get(found.id)) is None
            ):
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
    notes = [
        note
        for note in job.notes(Filter(tier="raw", pinned=False))
        if note.created_at <= before and note.id not in gone
    ]
    recalls = job.database.recalls.counts([note.id for note in notes])
    helps = _helps(job, recalls)
    idle = [note for note in notes if not helps[note.id]]
    last = job.database.recalls.last([note.id for note in idle])
    found = job.database.reflections.load([note.number for note in idle])
    actions: list[Action] = []
    for note in idle:
        n, n_won, _ = recalls[note.id]
        kept = _retention(job, found[note.number], n, last.get(note.id))
        if kept is not None:
            used = (
                f"recalled {n} times {'without a measured use' if n_won else 'without a win'}"
                if n
                else "never recalled"
            )
            actions.append(Forget((note.id,), f"{used}, retention {kept:.4f}"))
    return Proposal(actions)


def _helps(job: Job, recalls: Mapping[str, RecallCount]) -> dict[str, bool]:
    """Whether each of these items helps, as far as that was measured, or else was there when a game was won."""
    measured = job.memory.credit.helpful(list(recalls))
    return {id: measured.get(id, count.n_won > 0) for id, count in recalls.items()}


def _retention(job: Job, found: Reflection, recalls: int, last: str | None) -> float | None:
    """The retention of what may be forgotten, and should be; None for the rest."""
    if found.status != "active" or found.pinned or found.tier != "raw":
        return None
    latest = max(datetime.fromisoformat(at) for at in (found.created_at, found.updated_at, last) if at)
    days = (datetime.fromisoformat(job.now()) - latest).total_seconds() / 86400
    kept = retention(days, recalls)
    if kept >= job.config.forget_below:
        return None
    return None if job.database.versions.has(found.id, FADED) else kept
