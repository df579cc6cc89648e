"""A game of two doors each turn, for rounds that play while they train, and a lab that such a round is run in.

python practice_game.py LAB MODEL UNITS: runs the round there, and dies by SIGKILL when so many steps are trained.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.progress import Progress
from environments import Task, TextEnv, Turn, register
from environments.toy import COLOURS

ENV = "practice/doors"
GOOD = COLOURS[::2]


class Doors(TextEnv):
    """Every other colour is good, and always the same: two good doors win, a bad one loses."""

    def __init__(self) -> None:
        super().__init__(ENV, 4)

    def begin(self, task: Task) -> Turn:
        self.opened, self.name = 0, f"{task.split} {task.seed}"
        return self._turn()

    def act(self, action: str) -> Turn:
        if action.split()[1] not in GOOD:
            return self._turn(lost=True)
        self.opened += 1
        return self._turn(won=self.opened == 2)

    def _turn(self, *, won: bool = False, lost: bool = False) -> Turn:
        doors = [f"open {colour} door" for colour in COLOURS]
        said = f"Hall {self.name}, door {self.opened}."
        # The score is how far one came; the state does not name the game, so that ways cross.
        return Turn(said, doors, self.opened / 2, won, lost, f"door {self.opened}", "Open two good doors.")


def added() -> None:
    register(ENV, Doors)


def round_of(**settings: object) -> RoundConfig:
    """A round of eight steps; `settings` are those of `on_policy`."""
    return RoundConfig.model_validate({
        "envs": [ENV], "seeds": 4, "gate_seeds": 10, "held_out_seeds": 4, "gate": {"min_pairs": 8}, "retire": "off",
        "training": {
            "objective": "grpo", "learning_rate": 1e-2, "beta": 0.01, "batch_size": 16, "save_every": 3, "rank": 8,
        },
        "on_policy": {"steps": 8, "games": 2, "group": 8, **settings},
    })  # fmt: skip


def settings(model: str) -> LabConfig:
    return LabConfig(model=model, embedder="hashing", dtype="float32", threads=1, context=512)


class Dies(Progress):
    """Kills this process when so many steps are trained."""

    def __init__(self, units: int) -> None:
        self.left = units

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        if stage == "practising":
            self.left -= units
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, model: str, units: str) -> None:
    added()
    progress = Dies(int(units)) if int(units) else None
    with Lab.open(Path(folder), create=True, config=settings(model), progress=progress) as lab:
        print(lab.round(round_of()).adapter)


if __name__ == "__main__":
    main(*sys.argv[1:])
