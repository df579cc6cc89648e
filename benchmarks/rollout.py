"""Many episodes at once against one at a time: episodes a second, and whether they are the same.

    python benchmarks/rollout.py [--env twx/coin] [--episodes 16] [--think N ...] [--threads N] [--model M]
        [--engine transformers|vllm]

Each row plays the same games twice in one lab: half of them one at a time, then all at once, then the other half one at
a time, so that both see the same machine. The actor ranks commands, or writes its turns with a thought of so many
tokens. Beside the wall clock stands the processor time of the process, which the load of others changes less; that of a
vLLM server is not in it. The exit code is 1 if an action differs, or a log-probability by more than 1e-3, or if fewer
than 1.5 times as many episodes a second are played at once (4 times on vLLM).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import describe

from agentlab import Arm, Lab, LabConfig, Task
from agentlab.agent.arms import BASE
from agentlab.agent.tasks import make_tasks
from agentlab.agent.writing import WritingActor
from memory.records import Episode

DIFFERENCE, RATIOS = {"float32": 1e-3, "bfloat16": 0.75}, {"transformers": 1.5, "vllm": 4.0}


@dataclass
class Taken:
    """What episodes took, in seconds: wall clock and processor time."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.wall + other.wall, self.cpu + other.cpu)


def play(lab: Lab, run: str, arm: Arm, tasks: Sequence[Task], at_once: int) -> tuple[list[Episode], Taken]:
    """The episodes of some tasks, and what they took."""
    rollout = lab.rollout(run, arm, reflectors=[])
    rollout.concurrency = at_once
    wall, cpu = time.perf_counter(), time.process_time()
    results = rollout.play(tasks, arm)
    taken = Taken(time.perf_counter() - wall, time.process_time() - cpu)
    rollout.close()
    return [lab.database.episodes.get(result.trials[0].episode) for result in results], taken


def apart(one: Sequence[Episode], other: Sequence[Episode]) -> tuple[int, float]:
    """How many episodes took other actions, and the largest difference of a log-probability in those that did not."""
    others, most = 0, 0.0
    for a, b in zip(one, other, strict=True):
        if a.actions != b.actions:
            others += 1
            continue
        for step, twin in zip(a.steps, b.steps, strict=True):
            pairs = zip(step.scores or step.logprobs, twin.scores or twin.logprobs, strict=True)
            most = max([most, *(abs(x - y) for x, y in pairs if x is not None and y is not None)])
    return others, most


def measure(lab: Lab, name: str, arm: Arm, tasks: Sequence[Task]) -> list[str]:
    """Print a row; what bounds it breaks."""
    half = len(tasks) // 2
    play(lab, f"{name} warm", arm, tasks[:1], 1)
    first, before = play(lab, f"{name} one at a time", arm, tasks[:half], 1)
    together, at_once = play(lab, f"{name} at once", arm, tasks, len(tasks))
    second, after = play(lab, f"{name} one at a time, again", arm, tasks[half:], 1)
    alone, taken = [*first, *second], before + after
    others, most = apart(alone, together)
    ratio = taken.wall / at_once.wall
    steps = sum(len(episode.steps) for episode in together)
    print(
        f"| {name} | {steps} | {len(tasks) / taken.wall:.3f} | {len(tasks) / at_once.wall:.3f} | {ratio:.2f} "
        f"| {taken.cpu / at_once.cpu:.2f} | {others} | {most:.1e} |",
        flush=True,
    )
    broken = [f"{name}: {others} episodes took other actions"] if others else []
    broken += [f"{name}: log-probabilities differ by {most:.1e}"] if most > DIFFERENCE[lab.config.dtype] else []
    return broken + (
        [f"{name}: only {ratio:.2f} times as many episodes a second"] if ratio < RATIOS[lab.config.engine] else []
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--env", default="twx/coin?step_limit=10")
    options.add_argument("--episodes", type=int, default=16)
    options.add_argument("--think", type=int, nargs="*", default=[0, 16], help="tokens of a thought, a row each")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    options.add_argument("--engine", default="transformers", choices=list(RATIOS))
    options.add_argument("--dtype", default="float32", choices=list(DIFFERENCE))
    given = options.parse_args(arguments)
    arms = {"rank": BASE} | {f"write, think {n}": BASE.with_(actor=WritingActor(think=n)) for n in given.think}
    print(f"{given.model}, {given.engine}, {given.dtype}, {given.env}; {describe(given.threads)}\n")
    print("| actor | steps | episodes/s, one at a time | at once | ratio | of processor time | others | max Δ log p |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        config = LabConfig(
            model=given.model,
            engine=given.engine,
            embedder="hashing",
            dtype=given.dtype,
            gather=True,  # by default only on an accelerator
            threads=given.threads,
            reflectors=[],
        )
        with Lab.open(Path(folder) / "lab", create=True, config=config, progress=False) as lab:
            tasks = make_tasks(given.env, "train", range(given.episodes))
            for name, arm in arms.items():
                broken += measure(lab, name, arm, tasks)
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
