"""Probation: what came from outside serves few episodes, by lot, until it is measured what it does.

What an origin (a file, a source that somebody named, all clients of the memory server together) has brought is one
thing in an experiment. For each episode on the train fold that would recall some of it one lot decides whether that
episode may: with the probability `CreditConfig.probation`, else it recalls what it would without that origin. So what
is held out takes the place of nothing, and however much an origin brings, or under however many names, no more episodes
are its. Held-out games never recall any of it.

An episode counts once for an origin, and what the lots say is judged by the same two errors as any credit, at any time
(`eprocess`). Where an origin credibly hurts, all that it has on probation is benched. Where it credibly helps, that of
it is vouched for which had a part in the trial and of which nothing speaks against: from then on it is recalled, and
measured, as the lab's own. What was not tried stays on probation, and its trial begins anew. What does neither stays
where it is: to serve everywhere, it has to have helped somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from memory.credit.assignment import Assignment, uniforms
from memory.credit.config import USUAL, CreditConfig
from memory.credit.uplift import Strata, Uplift
from memory.records import Recall, now
from memory.store.database import Database
from memory.store.origins import TrialRow, origin
from memory.store.recalls import RecallEvidence

Outcome = Literal["benched", "vouched"]


def on_trial(draw: Assignment | Recall | RecallEvidence) -> bool:
    """Whether a lot was one of probation, which serves less often than not."""
    return draw.propensity < USUAL


@dataclass(frozen=True, slots=True)
class Judged:
    """That the trial of an origin has ended: for which reflections, how, on which evidence, and with what error."""

    origin: str
    outcome: Outcome
    reflections: list[str]
    uplift: Uplift
    error: float

    @property
    def change(self) -> str:
        """As it stands in the history of each reflection."""
        return f"{self.outcome} with what {self.origin} brought: uplift {self.uplift}; anytime-valid p {self.error:.2g}"


class Probation:
    """Draws the lots over what is on probation, and ends it.

    Args: as of `Credit`.
    """

    def __init__(
        self,
        database: Database,
        config: CreditConfig,
        *,
        namespace: str | None = None,
        clock: Callable[[], str] = now,
    ) -> None:
        self.database = database
        self.config = config
        self.namespace = namespace
        self.clock = clock

    def draws(self, episode: str, ids: Sequence[str]) -> dict[str, Assignment]:
        """What is decided for an episode about those of these reflections that are on probation."""
        share = self.config.probation
        return {
            id: Assignment(id, uniforms("probation", episode, brought)[0] >= share, share)
            for id, brought in self.database.origins.on_probation(ids).items()
        }

    def admitted(self, drawn: Iterable[Assignment]) -> list[str]:
        """The origins of what an episode is served by such a lot."""
        served = [draw.reflection for draw in drawn if on_trial(draw) and not draw.held_out]
        return sorted(set(self.database.origins.on_probation(served).values()))

    def review(self, *, dry_run: bool = False) -> list[Judged]:
        """End the trials that say enough, each in one operation; returns what was done, or would be."""
        found = self._judged()
        if dry_run:
            return found
        for one in found:
            what = f"{len(one.reflections)} of {one.origin}"
            with self.database.operations.record("bench" if one.outcome == "benched" else "vouch", what):
                values = {"status": "benched"} if one.outcome == "benched" else {"vouched": True}
                for id in one.reflections:
                    old = self.database.reflections.get(id)
                    new = old.model_copy(update={**values, "updated_at": self.clock()})
                    self.database.reflections.put(new, change=one.change)
        return found

    def _judged(self) -> list[Judged]:
        trials = self._trials()
        strata = self._strata({brought: list(episodes.values()) for brought, episodes in trials.items()})
        if not strata.ids:
            return []
        totals, below, harm, help = strata.totals(), strata.below(), strata.harm(), strata.help()
        members, judged = self.database.origins.members(strata.ids, self.namespace), list[Judged]()
        allowed = round(1 - self.config.bench_at, 12)
        for at, brought in enumerate(strata.ids):
            if min(totals[at, 0], totals[at, 2]) < self.config.min_n:
                continue
            uplift = strata.estimate(at, self.config.level)
            if harm[at] <= allowed and below[at] >= self.config.bench_at:
                judged.append(Judged(brought, "benched", members[brought], uplift, float(harm[at])))
            elif help[at] <= allowed and below[at] <= allowed:
                proven = self._proven(brought)
                if proven:
                    judged.append(Judged(brought, "vouched", proven, uplift, float(help[at])))
        return judged

    def _trials(self) -> dict[str, dict[str, TrialRow]]:
        """By origin, and by episode, the first lot over something of it that counts."""
        found: dict[str, dict[str, TrialRow]] = {}
        for row in self._rows():
            found.setdefault(origin(row.source), {}).setdefault(row.episode, row)
        return found

    def _rows(self) -> list[TrialRow]:
        rows = self.database.origins.trials(USUAL, self.namespace)
        # What was benched, and brought back by a person, is judged only by what was recalled since.
        overruled = self.database.versions.last(list({row.reflection for row in rows}), "benched")
        return [row for row in rows if row.at > overruled.get(row.reflection, "")]

    def _proven(self, brought: str) -> list[str]:
        """What of an origin had a part in its trial, and of which nothing speaks against."""
        rows: dict[str, list[TrialRow]] = {}
        for row in self._rows():
            if origin(row.source) == brought:
                rows.setdefault(row.reflection, []).append(row)
        strata = self._strata(rows)
        return [id for id, mean in zip(strata.ids, strata.moments()[0].tolist(), strict=True) if mean > 0]

    def _strata(self, rows: dict[str, list[TrialRow]]) -> Strata:
        counts: dict[tuple[str, str, float], list[int]] = {}
        for name, lots in rows.items():
            for lot in lots:
                count = counts.setdefault((name, lot.env, lot.propensity), [0, 0, 0, 0])
                count[2 * lot.held_out] += 1
                count[2 * lot.held_out + 1] += lot.won
        evidence = [RecallEvidence(*key, *count) for key, count in counts.items()]
        rates = self.database.episodes.success_rates({row.env for row in evidence})
        return Strata(list(rows), evidence, rates, self.config.prior)
