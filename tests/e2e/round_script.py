"""One round and its table in the toy game, in processes that kill themselves with SIGKILL at given moments.

python round_script.py LAB MODEL MOMENT…: for each moment a process makes the same call on the same lab and dies; then
the lab, as it lies there, is copied to LAB-0, LAB-1, …, and how the process ended is printed. A moment is `stage:units`
(that many units of a stage are done), or `promoting`, `promoted` or `said`: inside the transaction of the promotion,
right after it, and when the round has noted its end.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from agentlab import Lab, LabConfig, RoundConfig, RoundReport, Table
from agentlab.progress import Progress
from agentlab.rounds import TrainingConfig
from trainers.data.selection import SelectionConfig
from trainers.gate.gate import GateConfig

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
ROUND = RoundConfig(
    envs=[ENV],
    collect="both",
    seeds=12,
    model_trials=2,
    gate_seeds=14,
    held_out_seeds=5,
    selection=SelectionConfig(cap_per_task=1),
    # More steps than lie between two checkpoints.
    training=TrainingConfig(learning_rate=5e-3, batch_size=2, epochs=4),
    gate=GateConfig(min_pairs=10),
)
ARMS = ["random", "base", "base + memory", "adapter", "adapter + memory"]


def work(folder: Path, model: Path, progress: Progress | None = None) -> tuple[RoundReport, Table]:
    """The call that is made again after every kill."""
    config = LabConfig(model=str(model), embedder="hashing", dtype="float32", threads=1, context=512)
    with Lab.open(folder, create=True, config=config, progress=progress) as lab:
        report = lab.round(ROUND)
        return report, lab.evaluate(ENV, seeds=range(3), arms=ARMS, trials=2)


def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


class Deadly(Progress):
    """Kills the process when so many units of a stage are done."""

    def __init__(self, stage: str, units: int) -> None:
        self.stage, self.left = stage, units

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        if stage.startswith(self.stage):
            self.left -= units
            if self.left <= 0:
                die()


def prepare(moment: str) -> Progress | None:
    """Set this process up to die at a moment."""
    from agentlab.rounds import graph, report
    from trainers.adapters.registry import AdapterRegistry

    if ":" in moment:
        stage, units = moment.rsplit(":", 1)
        return Deadly(stage, int(units))
    if moment == "promoting":
        AdapterRegistry._serve = die  # type: ignore[method-assign]
    elif moment == "promoted":
        promote = AdapterRegistry.promote

        def promote_and_die(*arguments: Any, **settings: Any) -> Any:
            promote(*arguments, **settings)
            die()

        AdapterRegistry.promote = promote_and_die  # type: ignore[method-assign]
    elif moment == "said":
        save = report.save

        def save_and_die(lab: Lab, report: RoundReport, phase: str | None = None) -> None:
            save(lab, report, phase)
            if phase == "done":
                die()

        graph.save = save_and_die
    return None


def main(folder: str, model: str, *moments: str) -> None:
    # Once here, instead of once in every process.
    for heavy in (
        "agentlab.engines.transformers",
        "langgraph.checkpoint.sqlite",
        "memory.index.vector_index",
        "trainers.training.training",
    ):
        importlib.import_module(heavy)
    for number, moment in enumerate(moments):
        process = os.fork()
        if process == 0:
            try:
                work(Path(folder), Path(model), prepare(moment))
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        shutil.copytree(folder, f"{folder}-{number}")


if __name__ == "__main__":
    main(*sys.argv[1:])
