"""What determines an episode, and so its id."""

from __future__ import annotations

import random
from dataclasses import dataclass

from agentlab.agent.arms import Arm
from environments import Task
from memory.records import content_id


@dataclass(frozen=True)
class EpisodeSpec:
    """Everything that determines an episode. Equal specs have equal ids, so work is not done twice after a kill."""

    run: str
    task: Task
    arm: Arm
    trial: int = 0
    seed: int = 0
    engine: str = ""

    @property
    def id(self) -> str:
        return content_id(
            "ep", self.run, self.engine, self.arm.name, self.arm.identity, self.task.id, self.trial, self.seed
        )

    def rng(self, step: int) -> random.Random:
        """The random numbers of one step. A resumed episode draws the same; so do all arms, which sharpens pairs."""
        return random.Random(f"{self.task.id}|{self.trial}|{self.seed}|{step}")
