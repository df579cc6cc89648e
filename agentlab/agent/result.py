"""The result of an episode, and the sink that stores it: the one way from whoever plays to what is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentlab.agent import strength
from memory.clock import follow
from memory.records import Episode, Recall, Reflection, Usage
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from memory import Database, ReflectionMemory


@dataclass
class EpisodeResult:
    """All that playing an episode came to.

    Attributes:
        episode: as it was lived; `episode.id` is the result's own.
        refined: its refined form, if it was won and refined.
        refining: steps in the environment that refining took.
        reflections: what it teaches.
        recalls: which reflections served it, and which were held out.
        strength_of: the environment and the weights for which it says how strongly advice should speak; None: for none.
    """

    episode: Episode
    refined: Episode | None = None
    refining: int = 0
    reflections: list[Reflection] = field(default_factory=list)
    recalls: list[Recall] = field(default_factory=list)
    strength_of: tuple[str, str | None] | None = None

    @property
    def id(self) -> str:
        return self.episode.id

    @property
    def moments(self) -> list[str]:
        """When it began, recalled and learned, by the clock of whoever played it (ISO 8601)."""
        told = [one.at for one in self.recalls] + [one.created_at for one in self.reflections]
        return [self.episode.started_at, *told]

    @property
    def summary(self) -> dict[str, Any]:
        """What a run knows a finished trial by."""
        episode = self.episode
        invalid = sum(step.invalid for step in episode.steps)
        took = {"usage": episode.usage.model_dump()} if episode.usage else {}
        return {
            **took,
            "episode": episode.id,
            "status": episode.status,
            "score": episode.score,
            "steps": len(episode.steps),
            "error": episode.error,
            "error_kind": episode.error_kind,
            "refining": self.refining,
            **({"invalid": invalid} if invalid else {}),
        }


@runtime_checkable
class EpisodeSink(Protocol):
    """Keeps results."""

    def put(self, result: EpisodeResult) -> None:
        """Store a result, all of it or nothing. Idempotent by id: the same result twice is stored once.

        One that errored gives way to one that came to its end, which stays.
        """
        ...

    def known(self, run: str, id: str) -> dict[str, Any] | None:
        """The summary of a result that was stored; None if there is none."""
        ...


class DatabaseSink:
    """Stores results in the database of a lab, each in one transaction.

    Without a `memory` nothing is learned: neither reflections nor recalls are kept.
    """

    def __init__(self, database: Database, memory: ReflectionMemory | None = None) -> None:
        self.database = database
        self.memory = memory

    def put(self, result: EpisodeResult) -> None:
        episode = result.episode
        ended = episode.status != "errored"
        # A worker's clock may be ahead of this one's; what begins from now on is later than what is stored.
        follow(max(result.moments))
        with self.database.transaction():
            before = self.known(episode.run, episode.id)
            if before is not None and before["status"] != "errored":
                return
            self.database.episodes.put(episode)
            if result.refined is not None:
                self.database.episodes.put(result.refined)
            if self.memory is not None:
                self.memory.remember(result.reflections)
                # What a person has deleted meanwhile is no longer there to be credited.
                served = [one for one in result.recalls if self.database.reflections.has(one.reflection)]
                self.database.recalls.put(served)
                if ended:
                    # Also where all was held out: what was not served is half of the evidence.
                    self.memory.outcome(episode.id, episode.won)
            if ended and result.strength_of is not None:
                strength.note(
                    self.database, *result.strength_of, episode.id, episode.strength, episode.won, episode.started_at
                )
            summary = result.summary
            if before is not None and "usage" in before and before != summary:  # what errored was paid for, too
                both = Usage.model_validate(before["usage"]) + episode.usage
                summary = {**summary, "usage": both.model_dump()}
            # In the same transaction: an episode that is stored is not played again, unless it errored.
            self.database.journal.put(_scope(episode.run), episode.id, summary)

    def known(self, run: str, id: str) -> dict[str, Any] | None:
        return self.database.journal.get(_scope(run), id)

    def usages(self, run: str) -> dict[str, Usage]:
        """What each stored episode of a run took, by its id, where that is known."""
        known = self.database.journal.items(_scope(run))
        return {id: Usage.model_validate(one["usage"]) for id, one in known.items() if "usage" in one}

    def spent(self, run: str) -> Usage:
        """What the stored episodes of a run took together, those of searches as well."""
        known = self.usages(run)
        rows = [row for row in self.database.episodes.find(EpisodeFilter(run=run)) if row.id not in known]
        searched = (
            Usage(input_tokens=row.input_tokens, output_tokens=row.output_tokens, cost=row.cost) for row in rows
        )
        return sum([*known.values(), *searched], Usage())


def count_spent(workspace: Workspace, runs: Iterable[str]) -> None:
    """Count what the stored episodes of some runs took, where that is limited."""
    if workspace.spending.limited:
        sink = DatabaseSink(workspace.database)
        for run in runs:
            workspace.spending.begin(run, sink.spent(run))


def _scope(run: str) -> str:
    return f"trials|{run}"
