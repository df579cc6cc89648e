"""What every method of consolidation shares: its settings, what it works on, and what a step of its plan is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from memory.records import Episode, Record, Reflection, task_parts
from memory.store.filters import ACTIVE, Filter

if TYPE_CHECKING:
    from memory.reflection_memory import ReflectionMemory
    from memory.store.database import Database

Method = Literal["shortcuts", "merge", "summaries", "rules", "links", "forget"]
METHODS: tuple[Method, ...] = ("shortcuts", "merge", "summaries", "rules", "links", "forget")
"""In the order in which they are applied: what one of them makes serves those after it, never those before."""

ROUNDING = 1e-6
"""A vector's cosine to itself may come out so much below 1."""

Writer = Callable[[str, int], str]
"""Anything that can write: `write(prompt, max_tokens)` gives text."""


class ConsolidationConfig(Record):
    """Settings of consolidation.

    Attributes:
        duplicate: cosine from which two texts say the same. Texts made from one template are near each other: at 0.95,
            accounts of different games are merged.
        neighbours: how many of the nearest earlier notes a note is linked to (A-MEM's k).
        similar: cosine below which no link is made.
        context: whether the context of a note is written anew when one that is nearer to it is linked to it.
        rules: rules of one environment, at most.
        batch: successes, each of another task, that are asked for rules together.
        summary: reflections that make up one summary.
        shortcut_gain: value that a shortcut must gain, in [0, 1].
        shortcuts: shortcuts kept of one episode, at most.
        forget_below: retention under which a memory that never helped is forgotten; 0 forgets nothing. At 0.01 one
            that was never recalled lasts 23 days, and each recall adds as many.
        folds: folds whose reflections may be brought together (empty: none was named). What was learned on held-out
            games serves its own game only, so that an evaluation never learns from another.
    """

    duplicate: float = Field(0.98, gt=0, le=1)
    neighbours: int = Field(5, ge=0)
    similar: float = Field(0.5, ge=0, le=1)
    context: bool = True
    rules: int = Field(20, ge=1)
    batch: int = Field(8, ge=2)
    summary: int = Field(8, ge=2)
    shortcut_gain: float = Field(0.05, ge=0, le=1)
    shortcuts: int = Field(5, ge=1)
    forget_below: float = Field(0.01, ge=0, lt=1)
    folds: tuple[str, ...] = ("train", "")


class Note(NamedTuple):
    """What a plan needs to know of a reflection; `number` names it in the index, `changed` grows with each change."""

    number: int
    id: str
    kind: str
    env: str
    task: str
    run: str
    pinned: int
    importance: float
    created_at: str
    source: str
    vouched: int
    tier: str
    changed: int
    stamp: int

    @property
    def on_probation(self) -> bool:
        return bool(self.source) and not (self.vouched or self.pinned)


class Lived(NamedTuple):
    """What a plan needs to know of an episode."""

    number: int
    id: str
    env: str
    task: str
    run: str
    status: str
    goal: str


@dataclass(frozen=True)
class Action(ABC):
    """One step of a plan: what is done to which `items` (ids), and why. It can be undone by itself."""

    method: ClassVar[Method]
    items: tuple[str, ...]
    reason: str

    @abstractmethod
    def apply(self, job: Job) -> bool:
        """Do it, in one operation. False if what it was planned for is no longer so; then nothing is done."""


@dataclass(frozen=True)
class Proposal:
    """What one method plans, and the marks (settings) up to which it has then seen everything."""

    actions: Sequence[Action]
    marks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One memory's consolidation. Nothing outside its namespace is read or changed."""

    memory: ReflectionMemory
    config: ConsolidationConfig
    writer: Writer | None = None
    traces: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def database(self) -> Database:
        return self.memory.database

    @property
    def namespace(self) -> str:
        return self.memory.namespace

    def now(self) -> str:
        """The present moment by the memory's clock."""
        return self.memory.clock()

    # What there is

    def notes(self, wanted: Filter = ACTIVE) -> list[Note]:
        """The reflections with text of this namespace that are `wanted`, the oldest first."""
        return self.database.reflections.select(Note, replace(wanted, namespace=self.namespace, text_only=True))

    def joinable(self, notes: Iterable[Note]) -> list[Note]:
        """Those that may be brought together with others: learned on one of the folds of the settings."""
        return [note for note in notes if task_parts(note.task).split in self.config.folds]

    def active(self, ids: Iterable[str]) -> dict[str, Reflection]:
        """Those of the reflections with these ids that are in use in this namespace, as they are now, in this order."""
        found = {id: self.database.reflections.get(id) for id in ids if self.database.reflections.has(id)}
        return {
            id: reflection
            for id, reflection in found.items()
            if reflection.status == "active" and reflection.namespace == self.namespace
        }

    def episodes(self, *, after: int = 0) -> list[Lived]:
        """The episodes from which this namespace has learned, on the folds of the settings, the oldest first.

        An episode has no namespace: it belongs to those that have a reflection on its task and run. Errored and
        shortened ones were not lived to their end and are left out.
        """
        return self.database.episodes.learned_from(Lived, self.namespace, self.config.folds, after=after)

    def resting_on(self, episode: Episode) -> list[str]:
        """The ids of the active raw reflections that rest on `episode`."""
        wanted = Filter(task=episode.task_id, tier="raw", advising=True, namespace=self.namespace)
        found = self.database.reflections.load(sorted(self.database.reflections.numbers(wanted)))
        resting = [
            (item.merged_into if item.status == "repeated" else None) or item.id
            for item in found.values()
            if item.text and any(evidence.episode == episode.id for evidence in item.evidence)
        ]
        return list(dict.fromkeys(resting))

    # Vectors

    def near(
        self, number: int, least: float, wanted: Container[int], most: int | None = None
    ) -> list[tuple[int, float]]:
        """The `most` nearest (all, without it) among `wanted` with a cosine of at least `least`, the nearest first.

        Of equally near ones the lesser number comes first: an index that was made again has them in another order.
        """
        index, count = self.memory.index, 32
        vector = index.vectors([number])[0]
        while True:
            found = index.search(vector, count)
            near = [(other, cosine) for other, cosine in found if cosine >= least - ROUNDING and other in wanted]
            near.sort(key=lambda pair: (-round(pair[1], 6), pair[0]))
            # All that are as near as the last of them are there.
            enough = most is not None and (
                not most or (len(near) >= most and found[-1][1] < near[most - 1][1] - ROUNDING)
            )
            if enough or len(found) < count or found[-1][1] < least - ROUNDING:
                return near[:most]
            count *= 4

    # How far the work is

    def key(self, method: Method, *more: object) -> str:
        """The name of a mark: of a method in this namespace, as long as `more` stays the same."""
        return "|".join(["consolidated", method, self.namespace, *map(str, more)])

    def mark(self, key: str) -> int:
        """Up to where everything was seen by a method; 0 before the first time."""
        return int(self.database.settings.get(key, 0))

    # Changing

    def change(self, old: Reflection, change: str, **values: Any) -> None:
        """Write a new version of a reflection."""
        new = old.model_copy(update={**values, "updated_at": self.now()})
        self.database.reflections.put(new, change=change)


def general_task(env: str, fold: str) -> str:
    """The task of what was learned from many tasks of one fold, so that the fold's rules hold for it too."""
    return f"{env}:{fold}:*" if fold else env
