"""Retirement: a reflection that helped, and that an adapter no longer needs, is taken out of use.

What has moved into the weights only fills the prompt. Its uplift is measured as by `memory.credit`, by withholding it
by lot; the episodes of the recalls know which adapter played them, so that the uplift under one adapter can be told
from that under all others. A reflection is retired if it credibly helped before, and under the adapter credibly changes
little. It is not judged by what was never measured: without lots under the adapter nothing is retired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from memory.database import Database
from memory.recalls import RecallEvidence
from memory.records import now
from memory.reflections import Filter
from memory.uplift import Strata, Uplift, estimate, exact_test

if TYPE_CHECKING:
    import numpy as np

RETIRED = "retired"
"""The status of what was retired, and how its entry in the history begins."""


class RetirementConfig(BaseModel):
    """When the uplift of a reflection counts as gone.

    worth: under the adapter the whole interval must lie below this, and below the uplift before.
    level: of the intervals.
    min_n: episodes served, and episodes withheld, without which nothing is retired, under the adapter and before it.
    prior: how many episodes the prior of the uplift before is worth on each side (see `memory.uplift`).
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
            with self.database.operation("retire", f"{len(found)} whose uplift has gone under {self.adapter}"):
                for verdict in found:
                    old = self.database.reflection(verdict.reflection)
                    new = old.model_copy(update={"status": RETIRED, "updated_at": self.clock()})
                    self.database.put_reflection(new, change=f"{RETIRED}: {verdict.reason}")
        return found

    def undo(self) -> list[str]:
        """Bring back, in one operation, what was retired for this adapter and not changed since; their ids."""
        where, values = Filter(namespace=self.namespace, status="retired").sql()
        rows = self.database.execute(
            "SELECT id FROM reflections JOIN reflection_versions AS versions ON versions.reflection = number "
            f"WHERE {where} AND version = (SELECT max(version) FROM reflection_versions WHERE reflection = number) "
            "AND change LIKE ? || '%' AND change LIKE '% under ' || ? ORDER BY number",
            [*values, f"{RETIRED}: ", self.adapter],
        )
        found = [row[0] for row in rows]
        if found:
            with self.database.operation("restore", f"{len(found)} that were retired for {self.adapter}"):
                for id in found:
                    old = self.database.reflection(id)
                    new = old.model_copy(update={"status": "active", "updated_at": self.clock()})
                    self.database.put_reflection(new, change=f"restored: {self.adapter} was rolled back")
        return found

    def _found(self) -> list[Faded]:
        under = self._enough(self._evidence("IS"))
        before = {id: rows for id, rows in self._enough(self._evidence("IS NOT")).items() if id in under}
        verdicts = []
        for id, rows in before.items():
            rates = self.database.success_rates({row.env for row in rows})
            past = Strata([id], rows, rates, self.config.prior).estimate(0, self.config.level)
            if past.low <= 0:
                continue
            present = _without_prior(under[id], self.config.level)
            if present.high < min(self.config.worth, past.mean):
                verdicts.append(Faded(id, self.adapter, past, present))
        return sorted(verdicts, key=lambda verdict: verdict.under.high)

    def _enough(self, rows: list[RecallEvidence]) -> Mapping[str, list[RecallEvidence]]:
        """The evidence by reflection, of those that have enough on both sides."""
        grouped: dict[str, list[RecallEvidence]] = {}
        for row in rows:
            grouped.setdefault(row.reflection, []).append(row)
        least = self.config.min_n
        return {
            id: found
            for id, found in grouped.items()
            if sum(row.served for row in found) >= least and sum(row.withheld for row in found) >= least
        }

    def _evidence(self, same: str) -> list[RecallEvidence]:
        """What episodes that drew lots say, of this adapter (`IS`) or of all others and the base (`IS NOT`)."""
        condition, values = Filter(namespace=self.namespace, status="active", pinned=False).sql()
        since = ""
        if same == "IS":
            since = (
                "AND recalls.at > ifnull((SELECT max(versions.at) FROM reflection_versions AS versions "
                "JOIN reflections ON versions.reflection = number "
                "WHERE id = recalls.reflection AND change LIKE ? || '%'), '') "
            )
        rows = self.database.execute(
            "SELECT reflection, recalls.env, propensity, sum(NOT withheld), sum(won * NOT withheld), sum(withheld), "
            "sum(won * withheld) FROM recalls JOIN episodes ON episodes.id = recalls.episode "
            "WHERE counted AND propensity < 1 AND won IS NOT NULL "
            f"AND adapter {same} ? {since}AND reflection IN (SELECT id FROM reflections WHERE {condition}) "
            "GROUP BY reflection, recalls.env, propensity",
            [self.adapter, *([RETIRED] if since else []), *values],
        )
        return [RecallEvidence(*row) for row in rows]


def _without_prior(rows: list[RecallEvidence], level: float) -> Uplift:
    """The uplift under flat priors: one that pulls towards 0 would say by itself that nothing is left."""
    import numpy as np

    counts = np.array([row[3:] for row in rows], dtype=float)
    found = estimate(counts + np.array([2, 1, 2, 1]), np.full(len(rows), 0.5), 1e-9, level)
    return _counted(found, counts)


def _counted(found: Uplift, counts: np.ndarray) -> Uplift:
    """`found` with the counts on which it really rests."""
    served, served_won, withheld, withheld_won = (int(n) for n in counts.sum(0))
    return replace(
        found, p=exact_test(counts), served=served, served_won=served_won, withheld=withheld, withheld_won=withheld_won
    )


def _short(uplift: Uplift) -> str:
    return f"{uplift.mean:+.2f} [{uplift.low:+.2f}, {uplift.high:+.2f}]"
