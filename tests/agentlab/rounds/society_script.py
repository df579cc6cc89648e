"""A game that chance wins half the time, and a round of a society of two that learns it.

python society_script.py LAB MODEL [STAGE:UNITS]: runs the round, and dies by SIGKILL when so many units of a stage are
done.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agentlab import Lab, LabConfig, RoundConfig
from agentlab.progress import Progress
from environments import Task, TextEnv, Turn, register

ENV = "society/doors"
ROUND = RoundConfig.model_validate({
    "envs": [ENV], "seeds": 10, "temperature": 4.0, "gate_seeds": 10, "held_out_seeds": 4, "gate": {"min_pairs": 8},
    "retire": "off", "forgetting": {"seeds": 0}, "society": {"agents": 2},
    "training": {"learning_rate": 5e-3, "epochs": 2, "batch_size": 2, "rank": 4},
})  # fmt: skip


class Doors(TextEnv):
    """Behind two of four doors is the coin, and behind the others nothing."""

    def __init__(self) -> None:
        super().__init__(ENV, 1)

    def begin(self, task: Task) -> Turn:
        self.hall = f"Hall {task.split} {task.seed}."
        return self._turn()

    def act(self, action: str) -> Turn:
        won = action in ("open red door", "open blue door")
        return self._turn(won=won, lost=not won)

    def _turn(self, *, won: bool = False, lost: bool = False) -> Turn:
        doors = [f"open {colour} door" for colour in ("red", "green", "blue", "white")]
        return Turn(self.hall, doors, float(won), won, lost, "hall", "Find the coin.")


def added() -> None:
    register(ENV, Doors)


class Dies(Progress):
    """Kills this process when so many units of a stage are done."""

    def __init__(self, stage: str, units: int) -> None:
        self.stage, self.left = stage, units

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        if stage == self.stage:
            self.left -= units
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, model: str, moment: str = "") -> None:
    added()
    stage, _, units = moment.rpartition(":")
    progress = Dies(stage, int(units)) if moment else None
    config = LabConfig(model=model, embedder="hashing", dtype="float32", threads=1, context=512)
    with Lab.open(Path(folder), create=True, config=config, progress=progress) as lab:
        print(lab.round(ROUND).adapter)


if __name__ == "__main__":
    main(*sys.argv[1:])
