"""B-STaR's controller (Zeng et al. 2025): the temperature to explore at, and the score that an episode needs.

Its whole state is what was measured, by round: it is stored as JSON, and the same round measured again changes nothing.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from memory.records import Episode
from trainers.data.selectors.base import draw, solution
from trainers.errors import CannotSelect


def balance_score(selected: int, correct: int, target: int = 8) -> float:
    """B-STaR's balance score of one task: min(n′/n*, 1)·(n′/n) (Zeng et al. 2025, eq. 3); 0 where nothing is selected.

    selected: n, distinct episodes that the filter lets through; correct: n′, those of them that are right; target: n*,
    how many right ones a task should give. Raises ValueError unless 0 ≤ n′ ≤ n and n* ≥ 1.
    """
    if not 0 <= correct <= selected or target < 1:
        raise ValueError(f"0 ≤ correct ≤ selected and target ≥ 1 are needed; got {correct}, {selected}, {target}")
    return min(correct / target, 1.0) * correct / selected if selected else 0.0


def balance(episodes: Iterable[Episode], threshold: float, target: int = 8) -> float:
    """The mean balance score over the tasks of `episodes`, if those that score at least `threshold` are selected.

    Correct is what was won. The same solution of a task counts once. A task of which nothing is selected counts as 0,
    or a threshold that only one task meets would look best. No tasks give 0.
    """
    distinct: dict[str, dict[object, Episode]] = {}
    for episode in episodes:
        if episode.status != "errored":
            distinct.setdefault(episode.task_id, {})[solution(episode), episode.score, episode.won] = episode
    scores = []
    for found in distinct.values():
        selected = [episode for episode in found.values() if episode.score >= threshold]
        scores.append(balance_score(len(selected), sum(episode.won for episode in selected), target))
    return math.fsum(scores) / len(scores) if scores else 0.0


def subset(tasks: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of the task ids at random, the same for the same seed whatever their order; all if there are no more."""
    return sorted(sorted(set(tasks), key=lambda task: draw(seed, task, "subset|"))[:count])


class Pick(BaseModel):
    """The setting of a round: the temperature to explore at, the score that an episode needs, their balance score."""

    model_config = ConfigDict(frozen=True)

    temperature: float
    threshold: float
    score: float


class Balancer(BaseModel):
    """Picks temperature and threshold from a grid at every round, by the balance score on a subset of the tasks.

    temperatures, thresholds: the grid. tasks: how many tasks the subset has. target: n* of the balance score.
    picks: what was picked, by round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperatures: list[float] = Field([0.5, 0.7, 0.9, 1.1], min_length=1)
    thresholds: list[float] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    tasks: int = Field(30, ge=1)
    target: int = Field(8, ge=1)
    picks: dict[int, Pick] = {}

    def pick(self, round_number: int, played: Mapping[float, Sequence[Episode]]) -> Balancer:
        """The controller after this round's pick; `played` holds, by temperature, episodes of the same tasks.

        Of equal scores the higher threshold is taken, then the lower temperature: both are the safer. Raises
        CannotSelect if a temperature of the grid was not played.
        """
        if round_number in self.picks:
            return self
        missing = [temperature for temperature in self.temperatures if not played.get(temperature)]
        if missing:
            raise CannotSelect(
                f"no episode was played at temperature {', '.join(map(str, missing))}; the balance score compares all "
                "of the grid; play the subset at each"
            )
        grid = [
            Pick(temperature=heat, threshold=bar, score=balance(played[heat], bar, self.target))
            for heat in self.temperatures
            for bar in self.thresholds
        ]
        best = max(grid, key=lambda pick: (pick.score, pick.threshold, -pick.temperature))
        return self.model_copy(update={"picks": self.picks | {round_number: best}})
