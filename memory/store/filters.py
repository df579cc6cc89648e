"""Which reflections, and which episodes, are meant, as a condition of SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memory.records import TASK_SPLIT, ErrorKind, ReflectionStatus, Status, Tier
from memory.store.origins import CLIENTS, ON_PROBATION
from memory.store.sql import conditions, marks

_ADVISING = (
    "(status = 'active' OR status = 'repeated' AND 'active' = (WITH RECURSIVE above (status, next) AS ("
    "SELECT root.status, root.merged_into FROM reflections AS root WHERE root.id = reflections.merged_into UNION "
    "SELECT root.status, root.merged_into FROM above JOIN reflections AS root ON root.id = above.next) "
    "SELECT status FROM above WHERE next IS NULL))"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reflections are meant: those in use, unless another `status` is given; None leaves a property open.

    `before` and `exclude_task`/`exclude_run` keep out what was learned too late or on the same ground, so that an
    evaluation does not recall its own answers; `split` lets in only what was learned on that fold. `text_only` keeps
    out those without text; what others repeat then fits if it, or one of these, was not learned too late or there.
    `on_probation` lets in only, or keeps out, what came from outside and is on probation; of that what the origins of
    `admitted` brought is let in all the same. `advising` lets in, whatever the `status`, what gives advice: what is
    active, and what repeats something that nobody took out of use. Without `repeats` what only says again what another
    one says is left out. `before` is exclusive, `after` inclusive (both ISO 8601, of the writing). `merged_into` names
    the one with which they are counted.
    """

    env: str | None = None
    task: str | None = None
    kinds: Sequence[str] | None = None
    tag: str | None = None
    status: ReflectionStatus | None = "active"
    run: str | None = None
    pinned: bool | None = None
    before: str | None = None
    exclude_task: str | None = None
    exclude_run: str | None = None
    split: str | None = None
    text_only: bool = False
    namespace: str | None = None
    source: str | None = None
    tier: Tier | None = None
    after: str | None = None
    anywhere: bool = False
    advising: bool = False
    repeats: bool = True
    merged_into: str | None = None
    on_probation: bool | None = None
    admitted: Sequence[str] = ()

    @property
    def narrow(self) -> bool:
        """True if few reflections are likely to fit."""
        named = (self.env, self.task, self.source, self.merged_into)
        return any(one is not None for one in named)

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE condition and its values."""
        # The plus keeps SQLite from the index on namespaces where another one leads to far fewer rows.
        env = None if self.anywhere else self.env
        where, values = conditions(
            {
                "env": env, "task": self.task, "status": None if self.advising else self.status, "run": self.run,
                "pinned": self.pinned,
                "+namespace" if self.narrow else "namespace": self.namespace, "source": self.source, "tier": self.tier,
                "merged_into": self.merged_into,
            }
        )  # fmt: skip
        if self.kinds is not None:
            where.append(f"kind IN {marks(self.kinds)}")
            values.extend(self.kinds)
        more = {
            "env IN (?, '')": self.env if self.anywhere else None,
            "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)": self.tag,
            "created_at >= ?": self.after,
        }
        if self.tag is not None:
            # Most rows are done with by this, which is far quicker.
            where.append("instr(tags, ?)")
            values.append(json.dumps(self.tag))
        for condition, value in more.items():
            if value is not None:
                where.append(condition)
                values.append(value)
        if self.split is not None:
            where.append(f"({TASK_SPLIT} OR task = '')" if self.anywhere else TASK_SPLIT)
            values += [self.split, self.split]
        learned, bounds = self.learned()
        if learned and self.text_only and (self.exclude_task or self.exclude_run):
            repeated, _ = self.learned("kin.")
            where.append(
                f"({learned} OR EXISTS (SELECT 1 FROM reflections AS kin WHERE kin.merged_into = reflections.id "
                f"AND kin.status = 'repeated' AND {repeated}))"
            )
            values += [*bounds, *bounds]
        elif learned:
            where.append(learned)
            values += bounds
        if self.text_only:
            where.append("text <> ''")
        if self.advising:
            where.append(_ADVISING)
        if not self.repeats:
            where.append("status <> 'repeated'")
        if self.on_probation is not None:
            where.append(self._probation())
            values.extend(self.admitted)
        return " AND ".join(where), values

    def _probation(self) -> str:
        if self.on_probation:
            return ON_PROBATION
        named = [f"source IN {marks(self.admitted)}"] if self.admitted else []
        clients = [f"source GLOB '{CLIENTS}*'"] if CLIENTS in self.admitted else []
        return " OR ".join([f"(NOT {ON_PROBATION}", *named, *clients]) + ")"

    def learned(self, of: str = "") -> tuple[str, list[Any]]:
        """The part of the condition that says when and on what ground something was learned; may be empty."""
        parts = {
            f"{of}created_at < ?": self.before,
            f"{of}task <> ?": self.exclude_task,
            f"{of}run <> ?": self.exclude_run,
        }
        given = {condition: value for condition, value in parts.items() if value is not None}
        return " AND ".join(given), list(given.values())


ACTIVE = Filter()
"""The reflections in use."""

EVERYTHING = Filter(status=None)
"""All reflections."""


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """Which episodes are meant; None leaves a property open.

    `adapter=""` means those played without an adapter; `minimised` those that are a shortened form of another one,
    `by_model` those in which a model chose; without, those in which chance did. `goal` is what their goal has in it,
    in capitals or not.
    """

    run: str | None = None
    env: str | None = None
    split: str | None = None
    task: str | None = None
    arm: str | None = None
    adapter: str | None = None
    status: Status | None = None
    minimised: bool | None = None
    by_model: bool | None = None
    error_kind: ErrorKind | None = None
    goal: str | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE condition and its values."""
        where, values = conditions(
            {
                "run": self.run, "env": self.env, "split": self.split, "task": self.task, "arm": self.arm,
                "status": self.status, "error_kind": self.error_kind, "ifnull(adapter, '')": self.adapter,
                "(minimised_from IS NOT NULL)": self.minimised,
            }
        )  # fmt: skip
        if self.by_model is not None:
            where.append("engine NOT IN ('', 'random')" if self.by_model else "engine = 'random'")
        if self.goal is not None:
            # By an index of goals: the rows, with their payloads, are far longer.
            where.append("number IN (SELECT number FROM episodes WHERE goal LIKE ? ESCAPE '!')")
            values.append(f"%{self.goal.translate({ord(sign): f'!{sign}' for sign in '%_!'})}%")
        return " AND ".join(where), values


ALL_EPISODES = EpisodeFilter()
