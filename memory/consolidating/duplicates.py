"""Near-duplicates become one item that keeps the evidence, the advice and the recalls of all of them.

Two reflections are duplicates if they say the same on both faces: their texts have a cosine of at least
`ConsolidationConfig.duplicate`, they are of the same kind, environment, fold, source and feedback, and where one of
them gives advice, of the same task: the same words about other states are other advice.

The most important one, then the oldest, takes over all that are near enough to it; what is only near to one of those
stays, so that no chain of small differences joins what differs. A pinned item takes over others but is never taken
over, and what a person has taken apart again (by undoing a merge, or restoring an item) is never joined a second time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from memory.advice import merged_advice
from memory.consolidating.job import Action, Job, Method, Note, Proposal, fold
from memory.lineage import MERGED
from memory.records import Evidence, Link, Reflection
from memory.reflections import stamp

READ = 1000
"""Characters that an embedder is sure to read (256 tokens); what follows them must be the same to the letter."""


@dataclass(frozen=True)
class Merge(Action):
    """The first of `items` takes over the others; `cosines` are theirs to it, `stamps` the hashes of all the texts."""

    method: ClassVar[Method] = "merge"
    cosines: tuple[float, ...]
    stamps: tuple[int, ...]

    def apply(self, job: Job) -> bool:
        database = job.database
        with database.operation("merge", f"{len(self.items)} into {self.items[0]}"):
            everyone = list(job.active(self.items).values())
            if tuple(stamp(item.text) for item in everyone) != self.stamps:
                return False
            survivor, *others = everyone
            if any(other.pinned for other in others):
                return False
            job.change(
                survivor,
                "took over duplicates",
                evidence=merged_evidence(everyone),
                advice=merged_advice(fact for item in everyone for fact in item.advice),
                derived_from=_distinct(id for item in everyone for id in item.derived_from),
                tags=_distinct(tag for item in everyone for tag in item.tags),
                importance=max(item.importance for item in everyone),
            )
            for other in others:
                job.change(other, "merged", status="merged", merged_into=survivor.id)
            database.put_links(
                [
                    Link(source=other.id, target=survivor.id, kind=MERGED, weight=_weight(cosine), at=job.now())
                    for other, cosine in zip(others, self.cosines, strict=True)
                ]
            )
        return True


def plan(job: Job) -> Proposal:
    """Which items take over which. Only what changed since the last time is compared with everything."""
    config = job.config
    notes = {note.number: note for note in job.joinable(job.notes(tier="raw"))}
    key = job.key("merge", config.duplicate, job.memory.embedder.model_id)
    seen = job.mark(key)
    apart = _taken_apart(job)
    near: dict[int, dict[int, float]] = defaultdict(dict)
    groups: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for note in notes.values():
        groups[_group(note)].add(note.number)
    same: dict[object, dict[int, float]] = {}
    for note in notes.values():
        if note.changed <= seen:
            continue
        group = _group(note)
        alike = same.get((group, note.stamp))
        if alike is None:  # Of equal texts one is looked up for all.
            alike = same[group, note.stamp] = dict(job.near(note.number, config.duplicate, groups[group]))
        for other, cosine in alike.items():
            if other != note.number:
                near[note.number][other] = near[other][note.number] = cosine
    loaded = job.database.load_reflections(sorted(near))
    actions = []
    taken: set[int] = set()
    for leader in sorted(near, key=lambda number: _rank(notes[number])):
        if leader in taken:
            continue
        others = [
            number
            for number in sorted(near[leader])
            if number not in taken
            and not notes[number].pinned
            and not apart & {notes[number].id, notes[leader].id}
            and _duplicates(loaded[leader], loaded[number])
        ]
        if others:
            taken.update(others, [leader])
            joined = [notes[number] for number in (leader, *others)]
            cosines = tuple(near[leader][number] for number in others)
            actions.append(
                Merge(
                    items=tuple(note.id for note in joined),
                    reason=f"say the same (cosine ≥ {min(cosines):.3f}): {loaded[leader].text[:60]!r}",
                    cosines=cosines,
                    stamps=tuple(note.stamp for note in joined),
                )
            )
    return Proposal(actions, {key: max((note.changed for note in notes.values()), default=seen)})


def merged_evidence(items: Iterable[Reflection]) -> list[Evidence]:
    """The evidence of all of them: each episode once, with all its steps."""
    steps: dict[str, set[int]] = {}
    for item in items:
        for evidence in item.evidence:
            steps.setdefault(evidence.episode, set()).update(evidence.steps)
    return [Evidence(episode=episode, steps=sorted(found)) for episode, found in steps.items()]


def _duplicates(one: Reflection, other: Reflection) -> bool:
    elsewhere = one.task != other.task and bool(one.advice or other.advice)
    return not elsewhere and one.oracle == other.oracle and one.text[READ:] == other.text[READ:]


def _group(note: Note) -> tuple[str, ...]:
    return note.kind, note.env, fold(note.task), note.source


def _rank(note: Note) -> tuple[object, ...]:
    return -note.pinned, -note.importance, note.created_at, note.number


def _taken_apart(job: Job) -> set[str]:
    """Items that were merged once and are in use again: somebody wanted them apart."""
    rows = job.database.execute(
        "SELECT id FROM reflections WHERE status = 'active' AND namespace = ? AND id IN (SELECT source FROM links "
        "WHERE kind = 'merged' UNION SELECT source FROM link_versions WHERE kind = 'merged')",
        (job.namespace,),
    )
    return {row[0] for row in rows}


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _weight(cosine: float) -> float:
    return min(1.0, max(0.0, cosine))
