"""Everything known of one reflection."""

from __future__ import annotations

from dataclasses import dataclass, field

from memory import errors
from memory.records import Episode, Recall, Reflection, Step
from memory.store import repeats
from memory.store.database import Database
from memory.store.merges import family
from memory.store.versions import Version


@dataclass(frozen=True, slots=True)
class Shown:
    """The steps of one episode that a reflection rests on, and their indices in it.

    `episode` is None, and there are no steps, if the episode is not kept here.
    """

    id: str
    episode: Episode | None
    steps: list[Step]
    indices: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Detail:
    """A reflection with its history, whom it served, and what it rests on.

    The recalls and the evidence are its own and those of all that is counted with it, the oldest first; `tally` is in
    how many games that was.
    """

    reflection: Reflection
    versions: list[Version]
    recalls: list[Recall]
    evidence: list[Shown]
    tally: repeats.Tally = repeats.ONCE

    @classmethod
    def of(cls, database: Database, reflection: Reflection) -> Detail:
        """What `database` knows of it."""
        evidence = []
        for source in repeats.evidence(database, [reflection])[reflection.id]:
            episode = _stored_episode(database, source.episode)
            steps = [step for step in episode.steps if step.index in source.steps] if episode else []
            evidence.append(Shown(source.episode, episode, steps, source.steps))
        members = family(database.connection, [reflection.id])[reflection.id]
        recalls = [recall for member in members for recall in database.recalls.of_reflection(member)]
        recalls.sort(key=lambda recall: (recall.at, recall.rank))
        tally = repeats.tallies(database, [reflection])[reflection.id]
        return cls(reflection, database.versions.of(reflection.id), recalls, evidence, tally)


def _stored_episode(database: Database, id: str) -> Episode | None:
    try:
        return database.episodes.load([id])[0]
    except errors.UnknownEpisode:
        return None
