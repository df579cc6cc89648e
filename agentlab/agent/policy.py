"""From scores to an action: the engine's log-probabilities plus recalled advice, taken greedily or sampled."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentlab.trajectories.advice import AdviceWeights


@dataclass(frozen=True)
class Policy:
    """How an agent chooses.

    Attributes:
        temperature: of the first trial; 0 takes the best command.
        retry_temperature: of the trials after it (a greedy agent would repeat itself).
        growth: trial t (0-based) multiplies advice by 1 + growth · t, and from t = 1 on plays at
            retry_temperature · (1 + growth · (t − 1)). With 0 the temperatures are played as they are set.
        advice: whether advice enters the scores at all.
        weights: how facts become a bonus.
    """

    temperature: float = 0.0
    retry_temperature: float = 1.0
    growth: float = 0.5
    advice: bool = True
    weights: AdviceWeights = field(default_factory=AdviceWeights)

    def temperature_at(self, trial: int) -> float:
        """The sampling temperature of a trial (0-based)."""
        return self.temperature if trial == 0 else self.retry_temperature * (1 + self.growth * (trial - 1))

    def scale_at(self, trial: int) -> float:
        """What advice is multiplied by in a trial (0-based)."""
        return 1 + self.growth * trial

    def choose(self, scores: Sequence[float], bonus: Sequence[float], trial: int, rng: random.Random) -> int:
        """Index of the chosen command. Ties between best commands go to the first, so a greedy agent is repeatable.

        At T = 0 the command with the largest score + bonus is taken; else one is drawn in proportion to
        exp(score / T + bonus): advice is not softened by exploring, or a hot agent would forget what it knows.
        """
        temperature = self.temperature_at(trial)
        soft = temperature if temperature > 0 else 1.0
        totals = [score / soft + extra for score, extra in zip(scores, bonus, strict=True)]
        if temperature <= 0:
            return max(range(len(totals)), key=totals.__getitem__)
        top = max(totals)
        return rng.choices(range(len(totals)), [math.exp(total - top) for total in totals])[0]
