"""Retirement: a reflection that helped, and that an adapter no longer needs, is taken out of use.

What has moved into the weights only fills the prompt. Its uplift is measured as by `memory.credit`, by holding it out
at random; the episodes of the recalls know which adapter played them, so that the uplift under one adapter can be told
from that under all others. A reflection is retired if it credibly helped before, and under the adapter credibly changes
little, however often that is looked at. It is not judged by what was never measured: without lots under the adapter
nothing is retired. What was merged into it counts for it, on both sides (see `memory.store.merges`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from memory.credit.uplift import Strata, Uplift, estimate, exact_test
from memory.records import now
from memory.store.database import Database
from memory.store.filters import Filter
from memory.store.recalls import Played, RecallEvidence, RecallFilter

if TYPE_CHECKING:
    import numpy as np

RETIRED = "retired"
"""The status of what was retired, and how its entry in the history begins."""


class RetirementConfig(BaseModel):
    """When the uplift of a reflection counts as gone.

    worth: under the adapter the uplift must credibly be below this, and below the uplift before.
    level: how sure that must be, however often it is looked at, and of the intervals.
    min_n: episodes served, and episodes held out, without which nothing is retired, under the adapter and before it.
    prior: how many episodes the prior of the uplift before is worth (see `uplift`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    worth: float = Field(0.1, gt=0.0, lt=1.0)
    level: float = Field(0.95, gt=0.5, lt=1.0)
    min_n: int = Field(10, ge=1)
    prior: float = Field(10.0, gt=0.0)


@dataclass(frozen=True, slots=True)
class Faded:
    """That a reflection is retired: its uplift before, and under `adapter`."""

    reflection: str
    adapter: str
    before: Uplift
    under: Uplift

    @property
    def reason(self) -> str:
        """As it stands in the reflection's history."""
        return f"uplift {_short(self.before)} before, {_short(self.under)} under {self.adapter}"


class Retirement:
    """Finds, and retires, what an adapter no longer needs.

    Args:
        database: where recalls and their outcomes are kept.
        adapter: the id of the adapter.
        config: what counts as gone.
        namespace: whose reflections are meant; None for all.
        clock: gives the present moment as `records.now` does.
    """

    def __init__(
        self,
        database: Database,
        adapter: str,
        config: RetirementConfig | None = None,
        *,
        namespace: str | None = None,
        clock: Callable[[], str] = now,
    ) -> None:
        self.database = database
        self.adapter = adapter
        self.config = config or RetirementConfig()
        self.namespace = namespace
        self.clock = clock

    def run(self, *, dry_run: bool = False) -> list[Faded]:
        """Retire in one operation; returns what was done, or with `dry_run` would be. Pinned ones are left alone.

        One that a person brought back is judged only by what was recalled since it was retired.
        """
        found = self._found()
        if found and not dry_run:
            with self.database.operations.record("retire", f"{len(found)} whose uplift has gone under {self.adapter}"):
                for verdict in found:
                    old = self.database.reflections.get(verdict.reflection)
                    new = old.model_copy(update={"status": RETIRED, "updated_at": self.clock()})
                    self.database.reflections.put(new, change=f"{RETIRED}: {verdict.reason}")
        return found

    def undo(self) -> list[str]:
        """Bring back, in one operation, what was retired for this adapter and not changed since; their ids."""
        retired = Filter(namespace=self.namespace, status="retired")
        found = self.database.versions.left_by(f"{RETIRED}: ", f" under {self.adapter}", retired)
        if found:
            with self.database.operations.record("restore", f"{len(found)} that were retired for {self.adapter}"):
                for id in found:
                    old = self.database.reflections.get(id)
                    new = old.model_copy(update={"status": "active", "updated_at": self.clock()})
                    self.database.reflections.put(new, change=f"restored: {self.adapter} was rolled back")
        return found

    def _found(self) -> list[Faded]:
        under = self._evidence(Played(self.adapter))
        before = {id: rows for id, rows in self._evidence(Played(self.adapter, others=True)).items() if id in under}
        verdicts = [verdict for id, rows in before.items() if (verdict := self._judged(id, rows, under[id]))]
        overruled = self.database.versions.last([verdict.reflection for verdict in verdicts], RETIRED)
        for id, at in overruled.items():
            verdicts = [verdict for verdict in verdicts if verdict.reflection != id]
            since = self._evidence(Played(self.adapter), [id], after=at)
            again = self._judged(id, before[id], since[id]) if since else None
            verdicts += [again] if again else []
        return sorted(verdicts, key=lambda verdict: verdict.under.high)

    def _judged(self, id: str, before: Sequence[RecallEvidence], under: Sequence[RecallEvidence]) -> Faded | None:
        rates = self.database.episodes.success_rates({row.env for row in before})
        past = Strata([id], before, rates, self.config.prior).estimate(0, self.config.level)
        if past.low <= 0:
            return None
        present, worth = _without_prior(under, self.config.level), min(self.config.worth, past.mean)
        # An interval promises its level for one look. The bet against the use stands whenever one looks, and the
        # interval, which does not need the odds of the lots, where those are amiss.
        error = Strata([id], under, rates, self.config.prior).less_than(worth)[0]
        gone = present.high < worth and error <= 1 - self.config.level
        return Faded(id, self.adapter, past, present) if gone else None

    def _evidence(
        self, played: Played, ids: Sequence[str] | None = None, after: str | None = None
    ) -> dict[str, list[RecallEvidence]]:
        """What those episodes that drew lots say, by reflection, of those that have enough on both sides."""
        among = Filter(namespace=self.namespace, status="active", pinned=False)
        least = (self.config.min_n, self.config.min_n)
        grouped: dict[str, list[RecallEvidence]] = {}
        for row in self.database.recalls.evidence(
            RecallFilter(ids=ids, after=after, among=among, least=least, played=played)
        ):
            grouped.setdefault(row.reflection, []).append(row)
        return grouped


def _without_prior(rows: Sequence[RecallEvidence], level: float) -> Uplift:
    """The uplift without a prior, which by itself would say that nothing is left: the difference of rates after one
    more win and one more loss on either side (Agresti & Caffo 2000)."""
    import numpy as np

    counts = np.array([row[3:] for row in rows], dtype=float)
    found = estimate(counts + np.array([2, 1, 2, 1]), np.full(len(rows), 0.5), 1e-9, level)
    return _counted(found, counts)


def _counted(found: Uplift, counts: np.ndarray) -> Uplift:
    """`found` with the counts on which it really rests."""
    served, served_won, held_out, held_out_won = (int(n) for n in counts.sum(0))
    return replace(
        found, p=exact_test(counts), served=served, served_won=served_won, held_out=held_out, held_out_won=held_out_won
    )


def _short(uplift: Uplift) -> str:
    return f"{uplift.mean:+.2f} [{uplift.low:+.2f}, {uplift.high:+.2f}]"
