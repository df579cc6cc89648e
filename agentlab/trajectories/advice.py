"""Advice on actions in states: facts read off trajectories, kept in a book, turned into a bonus for the scorer.

The book is the scorer's view of the long-term memory: earlier trials of the same task, and recalled reflections of
other tasks. Within an episode it is enough to count what was tried where: what was tried costs, and a gain that was had
does not attract again. A gain that kept its bonus would be fetched for ever: put back, and taken again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memory.advice import absorb
from memory.records import Advice, Step, state_key

GAIN_DISCOUNT = 0.95  # per step between an action and the gain it led to
BLAME_DISCOUNT = 0.6  # per step between an action and the loss it led to


@dataclass(frozen=True)
class AdviceWeights:
    """How facts become a bonus in nats. The defaults are the measured best.

    Attributes:
        lost: for an action that ended the game in a loss.
        negative: for an action that was answered with a negative reward; in the running episode in whatever state.
        gain: times (0.5 + value), for an action from which something was gained.
        visits: times log2(1 + visits), for an action tried without gain in earlier trials.
        no_effect: for each time (at most 3) the action changed nothing in earlier trials.
        blame: times `Advice.blame`, for the steps before a loss.
        again: for each time the action was tried in this very state in this episode, whatever came of it.
    """

    lost: float = -8.0
    negative: float = -3.0
    gain: float = 3.0
    visits: float = -0.7
    no_effect: float = -1.5
    blame: float = -5.0
    again: float = -5.0

    def bonus(self, fact: Advice) -> float:
        """The bonus of one fact, in nats."""
        if fact.lost:
            return self.lost
        blame = self.blame * fact.blame
        if fact.value > 0:
            return self.gain * (0.5 + fact.value) + blame
        if fact.negative:
            return self.negative + blame
        return self.visits * math.log2(1 + fact.visits) + self.no_effect * min(fact.no_effect, 3) + blame


class AdviceBook:
    """Facts by (state, action). Merging adds counts and keeps the best value and the worst blame.

    Of each fact it knows the `source`, where one was named: the one that said most, of equals the first.
    """

    def __init__(self, facts: Iterable[Advice] = ()) -> None:
        self.facts: dict[tuple[str, str], Advice] = {}
        self._sources: dict[tuple[str, str], tuple[float, str]] = {}
        for fact in facts:
            self.add(fact)

    def __len__(self) -> int:
        return len(self.facts)

    def source(self, state: str, action: str) -> str | None:
        """Who said most about `action` in `state`."""
        said = self._sources.get((state_key(state), action))
        return said[1] if said else None

    def add(self, fact: Advice, source: str | None = None) -> None:
        """Merge one fact into the book."""
        if source is not None:
            said = abs(AdviceWeights().bonus(fact))
            if said > self._sources.get(fact.key, (-1.0, ""))[0]:
                self._sources[fact.key] = said, source
        known = self.facts.get(fact.key)
        if known is None:
            self.facts[fact.key] = fact.model_copy()
            return
        absorb(known, fact)

    def bonuses(
        self, state: str, commands: Sequence[str], weights: AdviceWeights, had: Sequence[int] | None = None
    ) -> list[float]:
        """The bonus of each command in `state`, in nats; 0 where nothing is known.

        `had` is how often each was tried here in this episode (`Tried.times`): of what was, only what warns still
        counts, since its gain has been had.
        """
        here = state_key(state)
        found = [self.facts.get((here, command)) for command in commands]
        bonuses = [weights.bonus(fact) if fact else 0.0 for fact in found]
        return [
            min(bonus, 0.0) if times else bonus for bonus, times in zip(bonuses, had or [0] * len(bonuses), strict=True)
        ]


def immediate(step: Step) -> Advice:
    """What one step shows by itself."""
    return Advice(
        state=step.state,
        action=step.action,
        visits=1,
        no_effect=int(step.no_effect or (step.state == step.next_state and step.reward == 0)),
        negative=int(step.reward < 0),
        value=min(1.0, max(0.0, step.reward)),
    )


def facts_of(steps: Sequence[Step], *, lost: bool) -> list[Advice]:
    """All facts that a finished trajectory shows, with gains and losses backed up to the steps that led there.

    A step's value is the largest later gain in score over what it started from, discounted per step. In a lost game
    the last step is marked as the loss and the steps before it carry blame that fades with the distance.
    """
    book = AdviceBook()
    before = [0.0, *(step.score for step in steps[:-1])]
    for index, step in enumerate(steps):
        fact = immediate(step)
        gains = (
            GAIN_DISCOUNT ** (later - index) * (steps[later].score - before[index])
            for later in range(index, len(steps))
        )
        fact.value = max(fact.value, min(1.0, max(gains, default=0.0)), 0.0)
        if lost:
            distance = len(steps) - 1 - index
            fact.lost = int(distance == 0)
            fact.blame = BLAME_DISCOUNT**distance if distance else 0.0
        book.add(fact)
    return list(book.facts.values())
