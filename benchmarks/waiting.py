"""Threads that wait by sleeping against threads that go round: steps a second, alone and beside others.

    python benchmarks/waiting.py [--seconds N] [--threads N] [--model M]

A step reads a conversation anew and scores 40 commands. It runs in a process of its own, with
`OMP_WAIT_POLICY=PASSIVE`, which agentlab sets where nobody has set it, and as PyTorch has it by itself; by turns, with
nothing beside it and beside one busy process for each core. The exit code is 1 if a score differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from machine import describe

WAYS = {"sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}, "by itself": {}}
COMMANDS = [
    f"put the {thing} on the {place}" for thing in ("coin", "hat", "knife") for place in ("desk", "shelf", "bed")
]
SCENE = "You are in the living room. In one part of the room you see a shelf that has a coin, a hat and a knife on it. "


def steps(model: str, threads: int, seconds: float) -> None:
    """Score the same step again and again for some seconds; print how many a second, and the scores."""
    from agentlab.engines import hub
    from agentlab.engines.model import Model
    from agentlab.engines.transformers import TransformersEngine

    engine = TransformersEngine(hub.resolve(model), dtype="float32", device="cpu", context=2048, threads=threads)

    def step() -> list[float]:
        conversation = engine.conversation("Put everything where it belongs.")
        conversation.observe(SCENE * 4)
        return Model(engine).score(conversation, COMMANDS).logprobs

    scores, done, began = step(), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        scores, done = step(), done + 1
    print(json.dumps({"rate": done / (time.monotonic() - began), "scores": scores}))


def busy() -> None:
    """Count for ever."""
    count = 0
    while True:
        count += 1


@contextmanager
def company(many: int) -> Iterator[None]:
    """So many busy processes beside."""
    others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(many)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def measured(way: str, asked: argparse.Namespace) -> tuple[float, list[float]]:
    """Steps a second in a process of its own, and its scores."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    settings = ["--seconds", str(asked.seconds), "--threads", str(asked.threads), "--model", asked.model]
    command = [sys.executable, __file__, *settings, "--one", way]
    done = subprocess.run(command, env=clean | WAYS[way], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["rate"], found["scores"]


def main() -> int:
    """Print the table."""

    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--model", default="SmolLM2-135M-Instruct")
    options.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.one:
        if asked.one == "by itself":
            import torch  # noqa: F401 - before agentlab, whose setting then comes too late
        steps(asked.model, asked.threads, asked.seconds)
        return 0
    print(f"{asked.model}, float32; {describe(asked.threads)}\n")
    print("| beside it | sleeping, steps/s | as PyTorch has it | ratio | max Δ log p |\n|---|---|---|---|---|")
    known: list[list[float]] = []
    for many in (0, len(os.sched_getaffinity(0))):
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        with company(many):
            for way in [*WAYS, *reversed(WAYS)]:
                rate, scores = measured(way, asked)
                rates[way].append(rate)
                known.append(scores)
        sleeping, itself = (sum(found) / len(found) for found in rates.values())
        most = max(abs(a - b) for scores in known for a, b in zip(scores, known[0], strict=True))
        beside = f"{many} busy processes" if many else "nothing"
        print(f"| {beside} | {sleeping:.2f} | {itself:.2f} | {sleeping / itself:.2f} | {most:.1e} |", flush=True)
    return int(any(scores != known[0] for scores in known))


if __name__ == "__main__":
    sys.exit(main())
