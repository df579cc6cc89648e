"""Selection of episodes that differ: farthest first (Gonzalez 1985).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from memory.records import Episode
from trainers.data.selectors.base import Context, Selected, Selection, Settings, ordered, sift

Distance = Callable[[Episode, Episode], float]


def edit_distance(a: Episode, b: Episode) -> float:
    """Actions to insert, delete or replace (Levenshtein 1966), as a share of the longer episode: in [0, 1]."""
    row = list(range(len(b.actions) + 1))
    for i, action in enumerate(a.actions, 1):
        above, row = row, [i]
        for j, other in enumerate(b.actions, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (action != other)))
    return row[-1] / max(len(a.actions), len(b.actions), 1)


class Diversity(Settings):
    """In each group the preferred episode first, then again and again the one farthest from all that were taken.

    keep: at most so many of a group; None for all that are far enough.
    apart: what is not farther than this from one that was taken is left out; in the unit of the distance, [0, 1] for
        the edit distance of actions that stands in for a missing `Context.distance`.
    within: a group is the episodes of one `task`, of one `env`, or `all`.
    """

    kind: Literal["diversity"] = "diversity"
    keep: int | None = Field(None, ge=1)
    apart: float = Field(0.0, ge=0.0)
    within: Literal["task", "env", "all"] = "task"

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        groups: dict[str, list[Episode]] = {}
        for item in ordered(pool, context.seed):
            episode = item.episode
            name = {"task": episode.task_id, "env": episode.env, "all": ""}[self.within]
            groups.setdefault(name, []).append(episode)
        against: dict[str, str] = {}
        for group in groups.values():
            against |= self._against(group, context.distance or edit_distance)
        return sift(pool, context, lambda item: against.get(item.episode.id))

    def _against(self, group: list[Episode], distance: Distance) -> dict[str, str]:
        first, rest = group[0], group[1:]
        nearest = {episode.id: distance(first, episode) for episode in rest}
        taken = 1
        while rest and (self.keep is None or taken < self.keep):
            farthest = max(rest, key=lambda episode: nearest[episode.id])
            if nearest[farthest.id] <= self.apart:
                break
            rest.remove(farthest)
            taken += 1
            for episode in rest:
                nearest[episode.id] = min(nearest[episode.id], distance(farthest, episode))
        return {
            episode.id: "too similar" if nearest[episode.id] <= self.apart else "less diverse than others"
            for episode in rest
        }
