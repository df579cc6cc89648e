"""Workers against threads: episodes a second, and whether they are the same.

    python benchmarks/workers.py [--env twx/coin] [--episodes 16] [--workers 2|ray?workers=2] [--model M]

Half of the games are played by as many threads of one process as there are processors, then all by the workers, then
the other half by threads, so that both see the same machine. Workers are started and have their model before the clock
runs; each has its share of the processors. The exit code is 1 if an action differs, or a log-probability by more than
1e-3, or if the workers play fewer than 0.95 times as many episodes a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine import describe
from rollout import DIFFERENCE, apart, play

from agentlab import Lab, LabConfig
from agentlab.agent.arms import BASE
from agentlab.agent.tasks import make_tasks

BOUND = 0.95


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--env", default="twx/coin?step_limit=10")
    options.add_argument("--episodes", type=int, default=16)
    options.add_argument("--workers", default="2")
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    given = options.parse_args(arguments)
    processors = len(os.sched_getaffinity(0))
    tasks = make_tasks(given.env, "train", range(given.episodes))
    half = len(tasks) // 2
    config = LabConfig(model=given.model, embedder="hashing", dtype="float32", reflectors=[])
    with (
        tempfile.TemporaryDirectory() as folder,
        Lab.open(Path(folder) / "threads", create=True, config=config, progress=False) as lab,
        Lab.open(Path(folder) / "workers", create=True, config=config, progress=False) as hiring,
    ):
        hiring.hire(given.workers)
        assert hiring.workers is not None
        count = hiring.workers.count
        play(lab, "warm", BASE, tasks[:1], 1)
        play(hiring, "warm", BASE, tasks[:count], count)
        first, before = play(lab, "first", BASE, tasks[:half], processors)
        working, taken = play(hiring, "all", BASE, tasks, count)
        second, after = play(lab, "second", BASE, tasks[half:], processors)
    others, most = apart([*first, *second], working)
    ratio = (before + after).wall / taken.wall
    print(f"{given.model}, float32, {given.env}; {describe(processors)}\n")
    print("| workers | steps | episodes/s, threads | workers | ratio | others | max Δ log p |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {given.workers} | {sum(len(one.steps) for one in working)} | {len(tasks) / (before + after).wall:.3f} "
        f"| {len(tasks) / taken.wall:.3f} | {ratio:.2f} | {others} | {most:.1e} |\n"
    )
    broken = [f"{others} episodes took other actions"] if others else []
    broken += [f"log-probabilities differ by {most:.1e}"] if most > DIFFERENCE[config.dtype] else []
    broken += [f"only {ratio:.2f} times as many episodes a second"] if ratio < BOUND else []
    print("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
