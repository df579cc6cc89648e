"""Near-duplicates become one item that keeps the evidence, the advice and the recalls of all of them.

Two reflections are duplicates if their texts have a cosine of at least `ConsolidationConfig.duplicate`, and they are of
the same kind, environment, fold, source and feedback, and answer the same question. What gives advice on another task
than the one that takes it over is only counted there, as `repeated` (see `memory.store`): the same words about other
states are other advice, which goes on serving.

The most important one, then the oldest, takes over all that are near enough to it; what is only near to one of those
stays, so that no chain of small differences joins what differs. A pinned item takes over others but is never taken
over, and what a person has taken apart again (by undoing a merge, or restoring an item) is never joined a second time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from memory.advice import merged_advice
from memory.consolidation.job import ROUNDING, Action, Job, Method, Note, Proposal
from memory.records import Link, Reflection, ReflectionStatus, task_parts
from memory.store.filters import Filter
from memory.store.merges import MERGED
from memory.store.reflections import stamp
from memory.store.repeats import merged_evidence

BLOCK = 1024
"""How many notes are compared with the others at once."""
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
        with database.operations.record("merge", f"{len(self.items)} into {self.items[0]}"):
            everyone = list(job.active(self.items).values())
            if tuple(stamp(item.text) for item in everyone) != self.stamps:
                return False
            survivor, *others = everyone
            if any(other.pinned for other in others):
                return False
            elsewhere = {other.id for other in others if other.advice and other.task != survivor.task}
            absorbed = [item for item in everyone if item.id not in elsewhere]
            job.change(
                survivor,
                "took over duplicates",
                evidence=merged_evidence(everyone),
                advice=merged_advice(fact for item in absorbed for fact in item.advice),
                derived_from=_distinct(id for item in everyone for id in item.derived_from),
                tags=_distinct(tag for item in everyone for tag in item.tags),
                importance=max(item.importance for item in everyone),
            )
            for other in others:
                how: ReflectionStatus = "repeated" if other.id in elsewhere else "merged"
                job.change(other, how, status=how, merged_into=survivor.id)
            database.links.put(
                [
                    Link(source=other.id, target=survivor.id, kind=MERGED, weight=_weight(cosine), at=job.now())
                    for other, cosine in zip(others, self.cosines, strict=True)
                ]
            )
        return True


def plan(job: Job) -> Proposal:
    """Which items take over which. Only what changed since the last time is compared with everything."""
    config = job.config
    notes = {note.number: note for note in mergeable(job)}
    key = job.key("merge", config.duplicate, job.memory.embedder.model_id)
    seen = job.mark(key)
    # What was merged once and is in use again: somebody wanted it apart.
    apart = {source for source, _ in job.database.links.ever(MERGED)}
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
    loaded = job.database.reflections.load(sorted(near))
    actions = []
    taken: set[int] = set()
    for leader in sorted(near, key=lambda number: _rank(notes[number])):
        if leader in taken:
            continue
        free = [notes[number] for number in sorted(near[leader]) if number not in taken]
        others = _taken_over(notes[leader], free, loaded, apart)
        if others:
            joined = [notes[leader], *others]
            taken.update(note.number for note in joined)
            cosines = tuple(near[leader][note.number] for note in others)
            actions.append(
                Merge(
                    items=tuple(note.id for note in joined),
                    reason=f"say the same (cosine ≥ {min(cosines):.3f}): {loaded[leader].text[:60]!r}",
                    cosines=cosines,
                    stamps=tuple(note.stamp for note in joined),
                )
            )
    return Proposal(actions, {key: max((note.changed for note in notes.values()), default=seen)})


class Repeats(NamedTuple):
    """How many notes the job would merge into another, of those `examined`; `items` are all that could be."""

    near: int
    examined: int
    items: int


def repeats(job: Job, notes: Sequence[Note], most: int) -> Repeats:
    """What a merge of these notes, which are `mergeable`, would take out of use, without a plan that names it.

    At most so many pairs are compared. If there are more, every n-th note is examined: whether one that comes before it
    would take it over.
    """
    groups: dict[tuple[str, ...], list[Note]] = defaultdict(list)
    for note in notes:
        groups[_group(note)].append(note)
    step = max(1, math.ceil(sum(len(group) ** 2 for group in groups.values()) / most))
    # What was merged once and is in use again: somebody wanted it apart.
    apart = {source for source, _ in job.database.links.ever(MERGED)}
    counts = [_repeats(job, sorted(group, key=_rank), step, apart) for group in groups.values()]
    return Repeats(sum(counts), sum(len(range(0, len(group), step)) for group in groups.values()), len(notes))


def _repeats(job: Job, group: Sequence[Note], step: int, apart: set[str]) -> int:
    """How many of every `step`-th of the group, which stands in the order of rank, are taken over."""
    import numpy as np

    examined = group[::step]
    vectors = job.memory.index.vectors([note.number for note in examined]).T
    taken, settled = set[int](), np.zeros(len(examined), bool)
    for start in range(0, len(group), BLOCK):
        leaders = group[start : start + BLOCK]
        likeness = job.memory.index.vectors([note.number for note in leaders]) @ vectors
        for leader, cosines in zip(leaders, likeness, strict=True):
            near = np.flatnonzero((cosines >= job.config.duplicate - ROUNDING) & ~settled)
            others = [examined[at] for at in near.tolist() if examined[at].number != leader.number]
            if leader.number in taken or not others:
                continue
            loaded = job.database.reflections.load([leader.number, *(other.number for other in others)])
            gone = [note.number for note in _taken_over(leader, others, loaded, apart)]
            taken.update(gone)
            # Who takes over others is not taken over itself; its own row is among those near to it.
            joined = {leader.number, *gone} if gone else set[int]()
            settled[[at for at in near.tolist() if examined[at].number in joined]] = True
    return len(taken)


def mergeable(job: Job) -> list[Note]:
    """The notes of which some may be merged into others."""
    return job.joinable(job.notes(Filter(tier="raw")))


def _taken_over(leader: Note, others: Iterable[Note], loaded: Mapping[int, Reflection], apart: set[str]) -> list[Note]:
    """Those of `others`, which are near to the leader, that it may take over."""
    if leader.id in apart or loaded[leader.number].merged_into is not None:
        return []
    return [
        other
        for other in others
        if not other.pinned
        and other.id not in apart
        # It names the one that it repeated, and is in use again.
        and loaded[other.number].merged_into is None
        and _duplicates(loaded[leader.number], loaded[other.number])
    ]


def _duplicates(one: Reflection, other: Reflection) -> bool:
    # Answers to a question are counted against each other: however alike two of them sound, they are not one.
    read = 0 if one.topic else READ
    return (one.oracle, one.topic, one.text[read:]) == (other.oracle, other.topic, other.text[read:])


def _group(note: Note) -> tuple[str, ...]:
    trial = "on probation" if note.on_probation else ""
    return note.kind, note.env, task_parts(note.task).split, note.source, trial


def _rank(note: Note) -> tuple[object, ...]:
    return -note.pinned, -note.importance, note.created_at, note.number


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _weight(cosine: float) -> float:
    return min(1.0, max(0.0, cosine))
