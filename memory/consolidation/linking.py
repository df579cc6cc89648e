"""Links between notes that are near each other (Xu et al. 2025, A-MEM, §3.2), stronger the more they serve together.

What a new note is linked to may learn from it (§3.3): see `contexts`. Both are one operation, undone together.

A note is linked to the k nearest of those written before it, so that each pair has at most one link, which points to
the earlier one. Its weight is 1 − (1 − cosine) · 0.9^n after n episodes that both of them served: it starts as the
cosine, grows with each common use, and never exceeds 1. It is computed from the recalls and not counted up, so that
doing it again changes nothing. A link that a person has taken back (by undoing its operation) is left as it then was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memory.consolidation import contexts
from memory.consolidation.job import Action, Job, Method, Note, Proposal
from memory.records import Link, Reflection

SIMILAR = "similar"
LINKING = "links"
"""The name of the operation."""
REMAINS = 0.9
"""What remains of the distance between two notes after an episode that both served."""


def weight(cosine: float, together: int) -> float:
    """The weight of the link between two notes with this cosine that served `together` in so many episodes."""
    return 1 - (1 - min(1.0, max(0.0, cosine))) * REMAINS**together


@dataclass(frozen=True)
class Connect(Action):
    """The first of `items` is linked to the others, which have these `weights`, and to no earlier note besides.

    The contexts of `renewed`, some of the others, are written anew.
    """

    method: ClassVar[Method] = "links"
    weights: tuple[float, ...]
    renewed: tuple[str, ...] = ()

    def apply(self, job: Job) -> bool:
        database = job.database
        source, *targets = self.items
        # A model may write for long; the database is not held up meanwhile.
        renewals = self._renewals(job) if job.active([source]) else []
        with database.operations.record(LINKING, source):
            active = job.active(self.items)
            if source not in active:
                return False
            links = [
                Link(source=source, target=target, kind=SIMILAR, weight=weight, at=job.now())
                for target, weight in zip(targets, self.weights, strict=True)
                if target in active
            ]
            database.links.replace(source, SIMILAR, links)
            for old, new in renewals:
                if job.active([old.id]) == {old.id: old}:
                    database.reflections.put(new, change=contexts.RENEWED)
        return True

    def _renewals(self, job: Job) -> list[tuple[Reflection, Reflection]]:
        """The neighbours as they are, and as they are to be."""
        source, *targets = self.items
        weights = dict(zip(targets, self.weights, strict=True))
        notes = [note for note in job.active(self.renewed).values() if not note.pinned]
        return [
            (note, contexts.renewed(job, note, _neighbours(job, note.id) | {source: weights[note.id]}))
            for note in notes
        ]


def plan(job: Job, gone: frozenset[str] = frozenset()) -> Proposal:
    """The notes whose links are not as they should be; `gone` are those that the plan takes out of use."""
    notes = {note.number: note for note in job.joinable(job.notes()) if note.id not in gone}
    known = {note.id: note for note in notes.values()}
    key = job.key("links", job.config.neighbours, job.config.similar, job.memory.embedder.model_id)
    seen = job.mark(key)
    linked: dict[str, dict[str, float]] = {}
    strengths: dict[str, list[float]] = {}
    for source, target, strength in _links(job):
        if source in known and target in known:
            linked.setdefault(source, {})[target] = strength
            for end in (source, target):
                strengths.setdefault(end, []).append(strength)
    together, settled = job.database.recalls.together_by_link(SIMILAR, job.namespace), _settled(job)
    actions: list[Action] = []
    earlier: set[int] = set()
    for note in notes.values():
        have = linked.get(note.id, {})
        common = {target: together.get((note.id, target), 0) for target in have}
        cosines: dict[str, float] | None = None
        if note.changed > seen:
            found = job.near(note.number, job.config.similar, earlier, job.config.neighbours)
            cosines = {notes[number].id: cosine for number, cosine in found}
            common = job.database.recalls.together(note.id, list(cosines))
        elif any(common.values()):
            cosines = _cosines(job, note, [known[target] for target in have])
        earlier.add(note.number)
        if cosines is None:
            continue
        want = {target: weight(cosine, common.get(target, 0)) for target, cosine in cosines.items()}
        for target in settled.get(note.id, ()):
            want.pop(target, None)
            want.update({target: have[target]} if target in have else {})
        if _differ(have, want):
            strengthened = sum(1 for target in want if common.get(target))
            why = f"nearest of those before it: {len(want)}" + (
                f", stronger for serving together: {strengthened}" if strengthened else ""
            )
            renewed = []
            for target in want.keys() - have.keys():
                # Only what is among the nearest to it tells a note more, so that much linked notes come to rest.
                if _among(want[target], strengths.setdefault(target, []), job.config.neighbours):
                    renewed.append(target)
                for end in (note.id, target):
                    strengths.setdefault(end, []).append(want[target])
            renewed = [id for id in want if id in renewed and not known[id].pinned and job.config.context]
            why += f"; renews the context of {', '.join(renewed)}" if renewed else ""
            actions.append(Connect((note.id, *want), why, tuple(want.values()), tuple(renewed)))
    return Proposal(actions, {key: max((note.changed for note in notes.values()), default=seen)})


def _among(strength: float, others: list[float], most: int) -> bool:
    """Whether a link of this strength is one of the `most` strongest."""
    return sum(other > strength for other in others) < most


def _neighbours(job: Job, id: str) -> dict[str, float]:
    """The notes that one is linked with, either way, and how strongly."""
    links = job.database.links.of(id, kind=SIMILAR)
    return {link.target if link.source == id else link.source: link.weight for link in links}


def _differ(have: dict[str, float], want: dict[str, float]) -> bool:
    return have.keys() != want.keys() or any(abs(have[target] - want[target]) > 1e-5 for target in want)


def _cosines(job: Job, note: Note, others: list[Note]) -> dict[str, float]:
    vectors = job.memory.index.vectors([note.number, *(other.number for other in others)])
    return {other.id: float(vectors[0] @ vector) for other, vector in zip(others, vectors[1:], strict=True)}


def _links(job: Job) -> list[tuple[str, str, float]]:
    found = job.database.links.among(SIMILAR, job.namespace)
    return [(link.source, link.target, link.weight) for link in found]


def _settled(job: Job) -> dict[str, set[str]]:
    """The targets, by source, of the links that a person has taken back."""
    found: dict[str, set[str]] = {}
    for source, target in job.database.links.undone(SIMILAR, LINKING, job.namespace):
        found.setdefault(source, set()).add(target)
    return found
