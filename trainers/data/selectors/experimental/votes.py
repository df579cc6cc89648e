"""Selection by agreement, where no reward can be trusted: self-consistency (Wang et al. 2023).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import Field

from memory.records import Episode
from trainers.data.selectors.base import Context, Selected, Selection, Settings, draw, sift


class Votes(Settings):
    """The episodes of one task vote, each for what it came to; those of the winning side weigh by its share.

    by: what is voted for: `outcome` how and in which state the game ended, `answer` the last action, `actions` all.
    min_share: a winning side with less than this share of its task's votes is left out too.
    min_voters: a task with fewer episodes has no vote, and is left out.
    """

    kind: Literal["votes"] = "votes"
    by: Literal["outcome", "answer", "actions"] = "outcome"
    min_share: float = Field(0.5, ge=0.0, le=1.0)
    min_voters: int = Field(2, ge=1)

    def ballot(self, episode: Episode) -> Hashable:
        """What this episode votes for."""
        if self.by == "actions":
            return tuple(episode.actions)
        last = episode.steps[-1] if episode.steps else None
        if self.by == "answer":
            return last.action if last else None
        return episode.status, episode.score, last.next_state if last else None

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        votes: dict[str, Counter[Hashable]] = {}
        for item in pool:
            votes.setdefault(item.episode.task_id, Counter())[self.ballot(item.episode)] += 1
        # A tie is broken by lot: the same ballot has the same lot, wherever it stands.
        winners = {
            task: max(sides, key=lambda side: (sides[side], draw(context.seed, repr(side), task)))
            for task, sides in votes.items()
        }

        def share(episode: Episode) -> float:
            sides = votes[episode.task_id]
            return sides[winners[episode.task_id]] / sides.total()

        def reason(item: Selected) -> str | None:
            task = item.episode.task_id
            if votes[task].total() < self.min_voters:
                return "too few votes"
            if self.ballot(item.episode) != winners[task]:
                return "outvoted"
            return "no majority" if share(item.episode) < self.min_share else None

        won = sift(pool, context, reason)
        return won.model_copy(update={"selected": [item.times(share(item.episode)) for item in won.selected]})
