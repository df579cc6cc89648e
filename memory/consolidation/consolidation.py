"""Consolidation: many small memories become fewer better ones, by a plan that can be read before anything is done.

A plan is computed from what there is now, and each of its actions is one operation: undone by itself, done wholly or
not at all. So nothing needs to be remembered of work in progress: after a kill, a new plan has what is left to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from memory.consolidation import duplicates, forgetting, linking, rules, shortcuts, summaries
from memory.consolidation.job import METHODS, Action, ConsolidationConfig, Job, Method, Proposal, Writer
from memory.text.thoughts import answered

if TYPE_CHECKING:
    from memory.index.indexes import Progress
    from memory.reflection_memory import ReflectionMemory

__all__ = ["METHODS", "Action", "Consolidation", "ConsolidationConfig", "Method", "Plan", "Writer"]


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they are to be applied. `print` shows them, one a line."""

    actions: tuple[Action, ...] = ()
    marks: dict[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.actions)

    def __str__(self) -> str:
        return "\n".join(f"{action.method}: {', '.join(action.items)}: {action.reason}" for action in self.actions)

    @property
    def counts(self) -> dict[Method, int]:
        """How many actions of each method there are."""
        return dict(Counter(action.method for action in self.actions))


class Consolidation:
    """Consolidates the namespace of one memory.

    Args:
        memory: whose reflections, and the episodes they were learned from.
        config: thresholds and sizes.
        writer: `write(prompt, max_tokens)` of anything that can write, whose thoughts are left out; without one, rules
            and summaries are read off the facts.
        progress: is called with (done, total) after each action.
    """

    def __init__(
        self,
        memory: ReflectionMemory,
        config: ConsolidationConfig | None = None,
        writer: Writer | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.memory = memory
        self.config = config or ConsolidationConfig()
        self.writer = writer
        self._progress: Progress = progress or (lambda done, total: None)

    def plan(self, only: Collection[Method] | None = None) -> Plan:
        """What is to be done, by all methods or by `only` these. Nothing is changed.

        Vectors of texts that are new are computed, and kept for later where the database may be written.
        """
        return self._plan(self._job(), only)

    def apply(self, plan: Plan) -> Plan:
        """Do what was planned; returns what was done. What no longer fits, since somebody changed it, is left out."""
        return self._apply(self._job(), plan)

    def run(self, only: Collection[Method] | None = None) -> Plan:
        """Plan and apply one method after the other, so that each sees what those before it made.

        The same call again finds nothing left, and after a kill it finds the rest.
        """
        job = self._job()
        done: list[Action] = []
        for method in METHODS:
            while only is None or method in only:
                applied = self._apply(job, self._plan(job, [method]))
                done += applied
                # A note that learned from its links is looked at once more, and may be linked anew. It comes to rest,
                # since which notes are linked depends on no context.
                if method != "links" or not len(applied):
                    break
        return Plan(tuple(done))

    def _job(self) -> Job:
        return Job(self.memory, self.config, partial(answered, self.writer) if self.writer else None)

    def _plan(self, job: Job, only: Collection[Method] | None) -> Plan:
        self.memory.follow()
        wanted = METHODS if only is None else only
        # What is to be taken out of use is not linked or summed up in the same plan.
        merges = duplicates.plan(job) if "merge" in wanted else Proposal([])
        merged = frozenset(id for action in merges.actions for id in action.items[1:])
        fading = forgetting.plan(job, merged) if "forget" in wanted else Proposal([])
        gone = merged | {id for action in fading.actions for id in action.items}
        makers: dict[Method, Callable[[], Proposal]] = {
            "shortcuts": lambda: shortcuts.plan(job),
            "merge": lambda: merges,
            "summaries": lambda: summaries.plan(job, merged),
            "rules": lambda: rules.plan(job),
            "links": lambda: linking.plan(job, gone),
            "forget": lambda: fading,
        }
        proposals = [makers[method]() for method in METHODS if method in wanted]
        return Plan(
            tuple(action for proposal in proposals for action in proposal.actions),
            {key: mark for proposal in proposals for key, mark in proposal.marks.items()},
        )

    def _apply(self, job: Job, plan: Plan) -> Plan:
        done = []
        for place, action in enumerate(plan, 1):
            if action.apply(job):
                done.append(action)
            self._progress(place, len(plan))
        # Only now: what a kill cuts off is looked at again.
        with job.database.transaction():
            for key, mark in plan.marks.items():
                if job.mark(key) != mark:
                    job.database.settings.put(key, mark)
        return Plan(tuple(done))
