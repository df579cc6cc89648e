"""Caps and duplicates: no task, environment or solution may crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trainers.data.selectors.base import Context, Selected, Selection, Settings, sift, solution


def admit(
    pool: Sequence[Selected],
    context: Context,
    *,
    per_task: int | None = None,
    per_env: int | None = None,
    repeats: bool = False,
) -> Selection:
    """Take the preferred episodes first, up to the caps; `repeats` also admits the same solution again.

    In one pass: what a cap refused does not stand in the way of the same solution in another task.
    """
    seen: set[object] = set()
    tasks: Counter[str] = Counter()
    envs: Counter[str] = Counter()

    def reason(item: Selected) -> str | None:
        episode = item.episode
        if not repeats and solution(episode) in seen:
            return "duplicate"
        if per_task is not None and tasks[episode.task_id] >= per_task:
            return "task is full"
        if per_env is not None and envs[episode.env] >= per_env:
            return "environment is full"
        seen.add(solution(episode))
        tasks[episode.task_id] += 1
        envs[episode.env] += 1
        return None

    return sift(pool, context, reason)


class Cap(Settings):
    """At most so many episodes of one task (ReST-EM uses 10) and of one environment; None for all."""

    kind: Literal["cap"] = "cap"
    per_task: int | None = Field(10, ge=1)
    per_env: int | None = Field(None, ge=1)

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        return admit(pool, context, per_task=self.per_task, per_env=self.per_env, repeats=True)


class Dedupe(Settings):
    """Of episodes with the same environment, start and actions, one."""

    kind: Literal["dedupe"] = "dedupe"

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        return admit(pool, context)
