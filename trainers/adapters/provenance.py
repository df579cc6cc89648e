"""Where an adapter comes from, and where it was used: "why does the agent do this?" answered from the database.

The lineage goes reflection → episode → example → round → adapter → evaluation, each by id. An adapter's record names
its episodes; everything else is found from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from memory.store import evidence, family
from trainers.adapters.episodes import by_env
from trainers.adapters.record import AdapterRecord, AdapterStatus, Change
from trainers.adapters.registry import AdapterRegistry
from trainers.gate.gate import Rate, rate

if TYPE_CHECKING:
    from memory.records import Reflection
    from memory.store import Database

Kind = Literal["evaluation", "gate", "play"]
KINDS: tuple[Kind, ...] = ("evaluation", "gate", "play")


class Use(BaseModel):
    """What an adapter did in one run under one arm, on one fold: its success at first tries that did not error."""

    run: str
    kind: Kind
    arm: str
    split: str
    result: Rate


class Provenance(BaseModel):
    """Everything that a lab knows of one adapter.

    Attributes:
        record: its own record: base, settings, training, gate.
        serving: whether it is in use.
        episodes: what it was trained on, ids by environment.
        kl_episodes: where it was regularised to its base (KL), ids by environment.
        missing: ids of those of either kind that the lab no longer has.
        reflections: what was recalled while these were played, each with the number of these episodes; the most first.
        changes: when it was promoted, or taken back, and what served before or after.
        uses: where it played.
    """

    record: AdapterRecord
    serving: bool
    episodes: dict[str, list[str]]
    kl_episodes: dict[str, list[str]] = {}
    missing: list[str]
    reflections: dict[str, int]
    changes: list[Change]
    uses: list[Use]


def trace(registry: AdapterRegistry, adapter: str) -> Provenance:
    """Find out all about an adapter. Raises UnknownAdapter."""
    record, database = registry.get(adapter), registry.database
    used = [*record.lineage.episodes, *record.lineage.kl_episodes]
    found = {id for ids in by_env(database, used).values() for id in ids}
    return Provenance(
        record=record,
        serving=registry.serving() == record.id,
        episodes=by_env(database, record.lineage.episodes),
        kl_episodes=by_env(database, record.lineage.kl_episodes),
        missing=[id for id in dict.fromkeys(used) if id not in found],
        reflections=_recalled(database, record),
        changes=[change for change in registry.history() if record.id in (change.serving, change.before)],
        uses=_uses(database, record.id),
    )


def _recalled(database: Database, record: AdapterRecord) -> dict[str, int]:
    counts = dict.fromkeys(record.lineage.reflections, 0) | database.recalls.served_in(record.lineage.episodes)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _uses(database: Database, adapter: str) -> list[Use]:
    evaluations = set(database.evaluations.all())

    def kind(run: str) -> Kind:
        return "evaluation" if run in evaluations else "gate" if run.endswith("-gate") else "play"

    uses = [
        Use(run=found.run, kind=kind(found.run), arm=found.arm, split=found.split, result=rate(found.won, found.n))
        for found in database.episodes.results_of(adapter)
    ]
    return sorted(uses, key=lambda use: KINDS.index(use.kind))


class Taught(BaseModel):
    """An adapter that learned what a reflection says, or with its help.

    `served` of the episodes that it was trained on the reflection served; from `read_off` of them it was read off.
    `round` is the round that made the adapter, `serving` whether it is in use.
    """

    adapter: str
    status: AdapterStatus
    serving: bool
    round: str | None
    served: int
    read_off: int


MOST_KIN = 200
"""Of so many that are counted with a reflection the episodes are looked at that they were read off."""


def learned_from(registry: AdapterRegistry, reflections: Sequence[Reflection]) -> dict[str, list[Taught]]:
    """Which adapters learned from each of these reflections, by id, the newest first: "is it in the weights by now?".

    The lineage is reflection → episode → example → round → adapter: the reflection served an episode on which the
    adapter was trained, or was read off one. What is counted with a reflection counts; those from which none learned
    are left out.
    """
    database, records = registry.database, list(reversed(registry.list()))
    if not records or not reflections:
        return {}
    members = family(database.connection, [item.id for item in reflections])
    rests_on = {
        id: {one.episode for one in found} for id, found in evidence(database, reflections, most=MOST_KIN).items()
    }
    serving = registry.serving()
    found: dict[str, list[Taught]] = {}
    for record in records:
        counts, trained = registry.served(record), registry.trained(record)
        for id, kin in members.items():
            served, read_off = sum(counts.get(one, 0) for one in kin), len(rests_on[id] & trained)
            if served or read_off:
                taught = Taught(
                    adapter=record.id, status=record.status, serving=record.id == serving,
                    round=record.lineage.round, served=served, read_off=read_off,
                )  # fmt: skip
                found.setdefault(id, []).append(taught)
    return found


class Sides(BaseModel):
    """Episodes of two adapters, ids by environment."""

    only_a: dict[str, list[str]]
    only_b: dict[str, list[str]]
    both: dict[str, list[str]]


class Difference(Sides):
    """Two adapters beside each other: `settings` that differ, as (a, b), the episodes that they were trained on, and
    those of their KL regularisation to the base."""

    a: AdapterRecord
    b: AdapterRecord
    settings: dict[str, tuple[object, object]]
    kl_episodes: Sides


def difference(registry: AdapterRegistry, a: str, b: str) -> Difference:
    """Compare two adapters by what they were made from. Raises UnknownAdapter."""
    one, other = registry.get(a), registry.get(b)
    settings, others = _settings(one), _settings(other)
    names = [*settings, *(name for name in others if name not in settings)]
    return Difference(
        a=one,
        b=other,
        settings={
            name: (settings.get(name), others.get(name)) for name in names if settings.get(name) != others.get(name)
        },
        kl_episodes=_sides(registry.database, one.lineage.kl_episodes, other.lineage.kl_episodes),
        **dict(_sides(registry.database, one.lineage.episodes, other.lineage.episodes)),
    )


def _sides(database: Database, ours: list[str], theirs: list[str]) -> Sides:
    a, b = dict.fromkeys(ours), dict.fromkeys(theirs)
    return Sides(
        only_a=_named(database, [id for id in a if id not in b]),
        only_b=_named(database, [id for id in b if id not in a]),
        both=_named(database, [id for id in a if id in b]),
    )


def _settings(record: AdapterRecord) -> dict[str, object]:
    """What decides how an adapter comes out of its episodes."""
    lineage = record.lineage
    around = {
        "base": record.base,
        "fingerprint": record.fingerprint,
        "code": lineage.code_version,
        "merge": lineage.merge and lineage.merge.model_dump(mode="json", exclude_none=True),
    }
    ran = {name: record.training.get(name) for name in ("device", "dtype", "attention", "versions")}
    # What was asked for (dtype "auto") and what it came to are two things.
    return around | record.settings | {f"ran with {name}": value for name, value in ran.items()}


def _named(database: Database, episodes: list[str]) -> dict[str, list[str]]:
    """All of these episodes by environment, those that the lab no longer has under `unknown`."""
    found = by_env(database, episodes)
    known = {id for ids in found.values() for id in ids}
    lost = [id for id in episodes if id not in known]
    return found | ({"unknown": lost} if lost else {})
