"""What was measured: the score of every game, and what rates and comparisons follow from these."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from memory.text import loaded

RESAMPLED = 20_000
"""Resamples of a bootstrap, and sign flips of a test where there are more of them than that."""


class Game(BaseModel):
    """One game that was played: its scores, whether it was won, and how many actions, seconds and tokens that took."""

    final: float
    best: float
    won: bool
    steps: int
    invalid: int = Field(0, exclude_if=operator.not_)
    seconds: float = 0.0
    tokens: int = 0


class Learned(BaseModel):
    """What one training seed of one way came to: the games by arm, game and seed, and the rounds in a line each.

    `made_with` is the program that learned and measured, or the several that did. `split` says which games were played.
    What errored is missing.
    """

    protocol: str
    version: int
    way: str
    seed: int
    model: str
    made_with: str = ""
    split: str
    arms: dict[str, dict[str, dict[int, Game]]]
    rounds: list[str] = []

    @classmethod
    def load(cls, path: Path) -> Learned:
        """From its file. Raises ValueError if it is none."""
        return cls.model_validate(loaded(path.read_text(encoding="utf-8")))


Scores = Mapping[str, Mapping[int, Sequence[float]]]
"""Scores by the name of a game and its test seed, one of each training seed."""


def scores(learned: Sequence[Learned], arm: str, score: str) -> Scores:
    """The scores (`final` or `best`) of an arm by game and test seed, one of each training seed."""
    names = dict.fromkeys(name for one in learned for name in one.arms.get(arm, {}))
    gathered: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for one in learned:
        for name, games in one.arms.get(arm, {}).items():
            for seed, game in games.items():
                gathered[name].setdefault(seed, []).append(float(getattr(game, score)))
    return gathered


@dataclass(frozen=True)
class Mean:
    """A mean over games with its 95 % interval."""

    value: float
    low: float
    high: float
    games: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_of(games: Sequence[Sequence[float]]) -> Mean:
    """The mean of several groups of games, each group counting the same, with its bootstrap interval (Efron 1979).

    Games are drawn anew within each group. A game that was played after several trainings stands with its mean, since
    its plays are not independent. Where within each group all games have the same score there is
    nothing to draw, and the interval is that of a rate (Wilson).
    """
    values = [np.asarray(group, dtype=float) for group in games]
    value = float(np.mean([group.mean() for group in values]))
    if all(np.ptp(group) == 0 for group in values):
        from trainers.gate import wilson

        count = sum(len(group) for group in values)
        low, high = wilson(min(max(value, 0.0), 1.0) * count, count)
        return Mean(value, low, high, count)
    random = np.random.default_rng(0)
    drawn = [group[random.integers(len(group), size=(RESAMPLED, len(group)))].mean(axis=1) for group in values]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return Mean(value, float(low), float(high), sum(len(group) for group in values))


@dataclass(frozen=True)
class Against:
    """A paired comparison: the mean difference over the same games, and the two-sided p-value that it has by chance."""

    difference: float
    p: float
    games: int


def against(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Against:
    """Two systems on the same games, by name and seed: the paired randomisation test (Fisher 1935).

    Under the null each game's difference has either sign. All sign flips are counted where there are few games that
    differ, else a sample of them, with the observed one among it, so that p is never 0.
    """
    apart = [
        (np.asarray(ours[name], dtype=float) - np.asarray(theirs[name], dtype=float)) / len(ours[name])
        for name in ours
        if name in theirs
    ]
    joined = np.concatenate(apart) / len(apart)
    observed, moving = float(joined.sum()), joined[joined != 0]
    if not len(moving):
        return Against(0.0, 1.0, len(joined))
    if 2 ** len(moving) <= RESAMPLED:
        flips = 1 - 2 * ((np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1)
        p = float(np.mean(np.abs(flips @ moving) >= abs(observed) - 1e-12))
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(RESAMPLED, len(moving)))
        p = float((np.sum(np.abs(signs @ moving) >= abs(observed) - 1e-12) + 1) / (RESAMPLED + 1))
    return Against(observed, p, len(joined))
