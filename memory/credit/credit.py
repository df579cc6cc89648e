"""How much each item helps, measured: some are held out at random, and what that changes decides what is recalled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memory.credit.assignment import Assignment, assign, uniforms_of
from memory.credit.config import USUAL, CreditConfig
from memory.credit.probation import Probation, on_trial
from memory.credit.uplift import Strata, Uplift
from memory.records import Recall, ReflectionStatus, now
from memory.store.database import Database
from memory.store.filters import Filter
from memory.store.merges import family
from memory.store.recalls import RecallFilter

if TYPE_CHECKING:
    from memory.store.recalls import RecallEvidence


@dataclass(frozen=True, slots=True)
class Cost:
    """What holding out has cost: of `episodes` served and ended, `lost` (an estimate) would have been won without it.

    Each of the `held_out` (episode, item) counts with the item's uplift as it is known now, if that is positive.
    """

    episodes: int
    held_out: int
    lost: float

    @property
    def share(self) -> float:
        return self.lost / self.episodes if self.episodes else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """That a reflection is benched, on which evidence, and with what error (see `Strata.harm`)."""

    reflection: str
    uplift: Uplift
    error: float

    @property
    def change(self) -> str:
        """As it stands in the reflection's history."""
        return f"benched: uplift {self.uplift}; anytime-valid p {self.error:.2g}"


@dataclass(frozen=True, slots=True)
class CreditReport:
    """Where the items stand, as (id, uplift).

    Attributes:
        cost: of holding out so far.
        measured: how many items were served and held out at random at least once each.
        best, worst: the most and the least surely helpful of them that are active.
        harmful: active ones whose uplift is credibly below 0: pinned, restored, or not reviewed yet.
        benched: those that are benched, the least surely harmful first.
    """

    cost: Cost
    measured: int
    best: list[tuple[str, Uplift]]
    worst: list[tuple[str, Uplift]]
    harmful: list[tuple[str, Uplift]]
    benched: list[tuple[str, Uplift]]


class Credit:
    """Measures items by holding some out, and has them chosen, or benched, by what was measured.

    Args:
        database: where recalls and their outcomes are kept.
        config: how to measure.
        namespace: whose items are reviewed and reported; None for all.
        before: counts only what was recalled before this time (ISO 8601). A run gives the time of its beginning, so
            that its episodes do not depend on which of them ended first. Without it the evidence is that of the moment.
        clock: gives the present moment as `records.now` does.

    Only randomised holding out counts. That an item was recalled in games that were then won says nothing: it may be
    recalled where games are easy, or on a second try. So recalls that no lot decided are left out of the evidence. What
    was drawn for an item that was merged since counts for its survivor (see `memory.store.merges`).
    """

    def __init__(
        self,
        database: Database,
        config: CreditConfig | None = None,
        *,
        namespace: str | None = None,
        before: str | None = None,
        clock: Callable[[], str] = now,
    ) -> None:
        self.database = database
        self.config = config or CreditConfig()
        self.namespace = namespace
        self.before = before
        self.clock = clock
        self.probation = Probation(database, self.config, namespace=namespace, clock=clock)
        self._kept: dict[tuple[str | None, str], list[RecallEvidence]] = {}
        self._means: dict[tuple[str | None, str], float] = {}
        self._drawn: set[str] | None = None
        self._rates: dict[str, float] = {}
        self._cost: Cost | None = None

    # Serving

    def use(self, ids: Sequence[str], env: str | None, seed: int | str) -> dict[str, float]:
        """For each item one sample of what is believed of its uplift in `env` (None: in all), in [-1, 1].

        To choose the items with the greatest samples, or with the greatest sums of a known worth and the sample, is
        Thompson sampling (Thompson 1933): what is little known is tried, what is known to be useless is not. The sample
        depends on `seed` (the episode), the item and the evidence alone, not on which other items are asked about.
        """
        strata = self._strata(ids, env)
        if not strata.ids:
            return {}
        drawn = uniforms_of(strata.names, "use", seed)[:, 0]
        return dict(zip(strata.ids, strata.sample(drawn).tolist(), strict=True))

    def worth(self, ids: Sequence[str], env: str | None, seed: int | str = 0) -> dict[str, float]:
        """For each item the posterior mean of its uplift in `env`: chance has no part."""
        known = self._means if self.before is not None else {}
        missing = [id for id in ids if (env, id) not in known]
        if missing:
            # Without evidence both sides are the same prior. Other threads must never see half of this.
            found = dict.fromkeys(missing, 0.0)
            strata = self._arranged(self._evidence(missing, env))
            if strata.ids:
                found.update(zip(strata.ids, strata.moments()[0].tolist(), strict=True))
            known.update(((env, id), mean) for id, mean in found.items())
        return {id: known[env, id] for id in ids}

    def split(self, episode: str, ids: Sequence[str], *, env: str, decided: Iterable[Recall] = ()) -> list[Assignment]:
        """Which of `ids`, chosen for `episode` in `env`, are held out; the caller records that with the recalls.

        What was once decided for an episode stands, whatever channel asks again, and also where it was decided on what
        was merged into the item since; `decided` are recalls of it that are not stored yet. Pinned items are never held
        out; over what is on probation one lot decides for all that its origin brought. Else nothing is held out while
        the cost so far, as known at the last review, exceeds its bound; beyond that no single episode is expected to
        cost more than the bound (see `assign`).
        """
        stands = {one.reflection: (one.held_out, one.propensity) for one in reversed(list(decided))}
        stands.update(self.database.recalls.draws(episode))
        if stands:
            for id, members in family(self.database.connection, ids).items():
                known = [stands.pop(member) for member in members if member in stands]
                stands.update({id: known[0]} if known else {})
        draws = {id: Assignment(id, *what) for id, what in stands.items()}
        draws.update(self.probation.draws(episode, [id for id in dict.fromkeys(ids) if id not in draws]))
        pinned = self.database.reflections.pinned(ids)
        free = [id for id in dict.fromkeys(ids) if id not in draws and id not in pinned]
        if free and self.config.hold_out and not self._exhausted():
            # What other channels drew for this episode is part of what the episode may cost.
            drawn = [draw for draw in draws.values() if USUAL <= draw.propensity < 1]
            mean, _ = self._strata([*free, *(draw.reflection for draw in drawn)], env).moments()
            others = zip(drawn, mean[len(free) :].tolist(), strict=True)
            risked = sum((1 - draw.propensity) * max(0.0, uplift) for draw, uplift in others)
            lots = assign(
                episode, free, mean[: len(free)].tolist(), self.config.hold_out, self.config.max_cost - risked
            )
            draws.update((lot.reflection, lot) for lot in lots)
        return [draws.get(id, Assignment(id, False, 1.0)) for id in ids]

    def _exhausted(self) -> bool:
        if self._cost is None:
            self._cost = self.cost()
        return self._cost.share > self.config.max_cost

    # Looking

    def uplift(self, id: str) -> Uplift:
        """What is known of one item, over all environments. Raises `UnknownReflection`."""
        return self._strata([self.database.reflections.full_id(id)]).estimate(0, self.config.level)

    def uplifts(self, ids: Sequence[str]) -> dict[str, Uplift]:
        """What is known of each of these items over all environments; those that were not both served and held out
        at random are left out."""
        strata = self._strata(ids)
        if not strata.ids:
            return {}
        both = [at for at, (served, _, held_out, _) in enumerate(strata.totals()) if served and held_out]
        return {strata.ids[at]: strata.estimate(at, self.config.level) for at in both}

    def by_env(self, id: str) -> dict[str, Uplift]:
        """What is known of one item in each environment where a lot was drawn over it. Raises `UnknownReflection`."""
        full = self.database.reflections.full_id(id)
        grouped: dict[str, list[RecallEvidence]] = {}
        for row in self._evidence([full], None):
            grouped.setdefault(row.env, []).append(row)
        return {env: self._arranged(rows).estimate(0, self.config.level) for env, rows in sorted(grouped.items())}

    def all(self) -> Strata:
        """The evidence on all items of all namespaces over which a lot was drawn."""
        return self._arranged(self.database.recalls.evidence(RecallFilter(before=self.before)))

    def helpful(self, ids: Sequence[str]) -> dict[str, bool]:
        """Whether the uplift of these items is credibly above 0: as sure as one below it must be for benching.

        Those over which no lot was ever drawn are left out: of them nothing is measured.
        """
        drawn = self.database.recalls.randomised(ids)
        strata = self._strata([id for id in ids if id in drawn])
        if not strata.ids:
            return {}
        sure = (strata.help() <= self._error) & (strata.below() <= self._error)
        return dict(zip(strata.ids, sure.tolist(), strict=True))

    def cost(self) -> Cost:
        """What holding out has cost so far."""
        import numpy as np

        wanted = RecallFilter(before=self.before, among=self._items(), least=(0, 1))
        rows = [row for row in self.database.recalls.evidence(wanted) if not on_trial(row)]
        episodes = self.database.recalls.episode_count(before=self.before)
        if not rows:
            return Cost(episodes, 0, 0.0)
        strata = self._arranged(rows)
        held_out = strata.totals()[:, 2]
        mean, _ = strata.moments()
        return Cost(episodes, int(held_out.sum()), float((held_out * np.maximum(mean, 0)).sum()))

    def report(self, limit: int = 20) -> CreditReport:
        """Where the items stand, at most `limit` in each list; `harmful` is complete."""
        active = self._measured("active")
        order = _order(active)
        best = [index for index in reversed(order[-limit:])] if limit else []
        benched = self._measured("benched")
        return CreditReport(
            self.cost(),
            len(active.ids) + len(benched.ids),
            [(active.ids[index], active.estimate(index, self.config.level)) for index in best],
            [(active.ids[index], active.estimate(index, self.config.level)) for index in order[:limit]],
            [(verdict.reflection, verdict.uplift) for verdict in self._harmful(active)],
            [
                (benched.ids[index], benched.estimate(index, self.config.level))
                for index in list(reversed(_order(benched)))[:limit]
            ],
        )

    # Judging

    def review(self, *, dry_run: bool = False) -> list[Verdict]:
        """Bench every active item whose uplift is credibly below 0; return what was done (or would be), surest first.

        An item that does no harm is benched at any review with a probability of at most `1 - bench_at` in all.
        Pinned items are left alone. One that was benched before and brought back by a person is judged only by what
        was recalled since it was benched. Evidence, base rates and cost are looked at afresh.
        """
        self._kept.clear()
        self._means.clear()
        self._drawn = None
        self._rates.clear()
        self._cost = None
        verdicts = self._verdicts()
        if verdicts and not dry_run:
            with self.database.operations.record("bench", f"{len(verdicts)} with an uplift credibly below 0"):
                # What a person has pinned, or taken out of use, since it was judged is left as it is.
                judged = [(verdict, self.database.reflections.get(verdict.reflection)) for verdict in verdicts]
                verdicts = [verdict for verdict, old in judged if old.status == "active" and not old.pinned]
                for verdict in verdicts:
                    old = self.database.reflections.get(verdict.reflection)
                    new = old.model_copy(update={"status": "benched", "updated_at": self.clock()})
                    self.database.reflections.put(new, change=verdict.change)
        return verdicts

    def _verdicts(self) -> list[Verdict]:
        least = (self.config.min_n, self.config.min_n)
        items = self._items(status="active", pinned=False)
        rows = self.database.recalls.evidence(RecallFilter(before=self.before, among=items, least=least))
        if not rows:
            return []
        found = self._harmful(self._arranged(rows))
        overruled = self.database.versions.last([verdict.reflection for verdict in found], "benched")
        verdicts = []
        for verdict in found:
            if verdict.reflection in overruled:
                since = self.database.recalls.evidence(
                    RecallFilter(
                        ids=[verdict.reflection], after=overruled[verdict.reflection], before=self.before, least=least
                    )
                )
                verdicts += self._harmful(self._arranged(since)) if since else []
            else:
                verdicts.append(verdict)
        return sorted(verdicts, key=lambda verdict: verdict.error)

    def _harmful(self, strata: Strata) -> list[Verdict]:
        """Those of these items that have the evidence to be benched."""
        if not strata.ids:
            return []
        totals, error = strata.totals(), strata.harm()
        # The posterior does not need the odds of the lots, so that both together stand also where those are amiss.
        sure = (error <= self._error) & (strata.below() >= self.config.bench_at)
        sure &= (totals[:, 0] >= self.config.min_n) & (totals[:, 2] >= self.config.min_n)
        return [
            Verdict(strata.ids[at], strata.estimate(at, self.config.level), float(error[at]))
            for at in sure.nonzero()[0].tolist()
        ]

    @property
    def _error(self) -> float:
        # Rounded, so that 0.95 leaves 0.05.
        return round(1 - self.config.bench_at, 12)

    # Within

    def _items(self, status: ReflectionStatus | None = None, pinned: bool | None = None) -> Filter | None:
        if (self.namespace, status, pinned) == (None, None, None):
            return None
        return Filter(namespace=self.namespace, status=status, pinned=pinned)

    def _measured(self, status: ReflectionStatus) -> Strata:
        return self._arranged(
            self.database.recalls.evidence(
                RecallFilter(before=self.before, among=self._items(status=status), least=(1, 1))
            )
        )

    def _strata(self, ids: Sequence[str], env: str | None = None) -> Strata:
        return self._arranged(self._evidence(ids, env), list(dict.fromkeys(ids)), env or "")

    def _evidence(self, ids: Sequence[str], env: str | None) -> list[RecallEvidence]:
        """The evidence on `ids`. What lies before a fixed time is read once."""
        wanted = list(dict.fromkeys(ids))
        if self.before is None:
            return self.database.recalls.evidence(RecallFilter(ids=wanted, env=env))
        if self._drawn is None:
            self._drawn = self.database.recalls.randomised()
        # Of most no lot was ever drawn.
        drawn = [id for id in wanted if id in self._drawn]
        missing = [id for id in drawn if (env, id) not in self._kept]
        if missing:
            found: dict[str, list[RecallEvidence]] = {id: [] for id in missing}
            for row in self.database.recalls.evidence(RecallFilter(ids=missing, env=env, before=self.before)):
                found[row.reflection].append(row)
            self._kept.update(((env, id), rows) for id, rows in found.items())
        return [row for id in drawn for row in self._kept[env, id]]

    def _arranged(self, rows: Sequence[RecallEvidence], ids: Sequence[str] | None = None, env: str = "") -> Strata:
        known = list(dict.fromkeys(row.reflection for row in rows)) if ids is None else ids
        return Strata(
            known, rows, self._base_rates({row.env for row in rows} | ({env} if env else set())), self.config.prior, env
        )

    def _base_rates(self, envs: set[str]) -> Mapping[str, float]:
        missing = envs - self._rates.keys()
        if missing:
            self._rates.update(self.database.episodes.success_rates(missing, before=self.before))
        return self._rates


def _order(strata: Strata) -> list[int]:
    """The items from the least to the most surely helpful, by mean over standard deviation."""
    if not strata.ids:
        return []
    mean, variance = strata.moments()
    return (mean / variance**0.5).argsort(kind="stable").tolist()
