"""How strongly advice should speak, learned from what it led to.

A fixed bonus stops helping when the policy is confident: what moves an untrained model leaves a trained one untouched.
So the strength (what advice is multiplied by) is a bandit with a few arms, one bandit for each environment and adapter:
the strength with the best mean serves, and on a share of the train games one is drawn by Thompson sampling instead
(Thompson 1933; Beta posteriors over success). What a run finds out serves the runs after it, so that episodes played at
the same time do not depend on which of them ended first.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory import Database

GRID = (0.0, 0.5, 1.0, 2.0, 4.0)
"""The strengths to choose from. 0 lets the policy alone decide: whether advice helps at all is asked as well."""

EXPLORE = 0.25
"""The share of train games that try a strength rather than use the best."""

DEFAULT = 1.0
HEAD_START = 2
"""Imagined successes, and failures, of the default: the others must be seen to be better."""


def scope(env: str, adapter: str | None) -> str:
    """Where the journal keeps the outcomes for an environment and an adapter (None: the base)."""
    return f"strength|{env}|{adapter or 'base'}"


@dataclass
class Strength:
    """What is known of each strength: episodes won and lost with it."""

    won: Counter[float] = field(default_factory=Counter)
    lost: Counter[float] = field(default_factory=Counter)

    @classmethod
    def known(cls, database: Database, env: str, adapter: str | None, *, before: str) -> Strength:
        """What was found out before a moment (ISO 8601)."""
        found = cls()
        for item in database.journal.items(scope(env, adapter)).values():
            if item["at"] < before:
                found.add(item["strength"], item["won"])
        return found

    def add(self, strength: float, won: bool) -> None:
        """Take in one episode."""
        (self.won if won else self.lost)[strength] += 1

    def posterior(self, strength: float) -> tuple[float, float]:
        """The parameters of the Beta posterior of success: (α, β)."""
        head_start = HEAD_START if strength == DEFAULT else 0
        return 1.0 + head_start + self.won[strength], 1.0 + head_start + self.lost[strength]

    def draw(self, rng: random.Random) -> float:
        """A strength to try, by Thompson sampling."""
        return max(GRID, key=lambda strength: rng.betavariate(*self.posterior(strength)))

    def best(self) -> float:
        """The strength with the best mean among those tried; the default as long as nothing is known."""

        def mean(strength: float) -> tuple[float, bool]:
            alpha, beta = self.posterior(strength)
            return alpha / (alpha + beta), strength == DEFAULT

        tried = [strength for strength in GRID if strength == DEFAULT or self.won[strength] + self.lost[strength]]
        return max(tried, key=mean)

    def rows(self) -> list[Mapping[str, float]]:
        """For a table: each strength with the episodes played with it, those won, and the posterior mean."""
        rows: list[Mapping[str, float]] = []
        for strength in GRID:
            alpha, beta = self.posterior(strength)
            n = self.won[strength] + self.lost[strength]
            rows.append({"strength": strength, "n": n, "won": self.won[strength], "mean": alpha / (alpha + beta)})
        return rows


def note(database: Database, env: str, adapter: str | None, episode: str, strength: float, won: bool, at: str) -> None:
    """Keep how an episode ended that was played with a strength. Told twice after a kill, it counts once."""
    database.journal.put(scope(env, adapter), episode, {"strength": strength, "won": won, "at": at})
