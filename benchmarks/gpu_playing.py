"""Many episodes at once on a card, and how far that is from one at a time in float32 (for `benchmarks/gpu.py`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gpu_bench import GOAL, Bench, Row
from scoring import commands, observation

from agentlab.engines.base import ScoreRequest
from agentlab.engines.transformers import TransformersEngine

COMPARED = 4
"""Games whose scores are kept, to be compared with those of one at a time."""


def wave(engine: TransformersEngine, numbers: Sequence[int], steps: int) -> tuple[list[list[list[float]]], int]:
    """Play the games of these numbers beside each other, to their ends: the scores of each game's steps, and the tokens
    that were read.

    A game goes its own way whatever the model prefers, so that all who play it read the same.
    """
    lots = [random.Random(f"game {number}") for number in numbers]
    talks = [engine.conversation(GOAL) for _ in numbers]
    scores: list[list[list[float]]] = [[] for _ in numbers]
    read = 0
    for _ in range(steps):
        asked = []
        for rng, talk in zip(lots, talks, strict=True):
            talk.observe(observation(rng))
            asked.append(ScoreRequest(talk, commands(rng, rng.randint(8, 30))))
        for at, found in enumerate(engine.score(asked)):
            scores[at].append(found.logprobs)
            read += found.usage.input_tokens
            talks[at].act(lots[at].choice(list(asked[at].commands)))
    for talk in talks:
        talk.close()
    return scores, read


def playing(bench: Bench, name: str, at_once: int) -> list[Row]:
    """Episodes a second where so many are played at once."""
    engine, size = bench.engine(name, "auto"), bench.size
    wave(engine, range(at_once), min(2, size.steps))
    bench.fresh_peak()
    kept: list[list[list[float]]] = []
    tokens = played = 0
    start = bench.settle()
    while played < COMPARED or bench.settle() - start < size.seconds:
        scores, read = wave(engine, range(played, played + at_once), size.steps)
        kept += scores[: COMPARED - len(kept)]
        tokens, played = tokens + read, played + at_once
    seconds = bench.settle() - start
    return [
        {
            "model": bench.title(name),
            "dtype": str(engine.dtype).removeprefix("torch."),
            "at_once": at_once,
            "episodes": played,
            "steps": size.steps,
            "episodes_per_second": played / seconds,
            "tokens_per_second": tokens / seconds,
            "peak_gib": bench.peak_memory(),
            "scores": [[[round(score, 5) for score in step] for step in steps] for steps in kept],
        }
    ]


def parity(bench: Bench, name: str = "SmolLM2-135M") -> list[Row]:
    """How far scores are from those of one episode at a time in float32."""
    size, rows = bench.size, []
    reference: list[list[list[float]]] = []
    for dtype in ("float32", "bfloat16"):
        engine = bench.engine(name, dtype)
        for at_once in (1, size.compared):
            scores: list[list[list[float]]] = []
            for first in range(0, size.compared, at_once):
                scores += wave(engine, range(first, first + at_once), min(size.steps, 4))[0]
            reference = reference or scores
            rows.append({"model": bench.title(name), "dtype": dtype, "at_once": at_once} | apart(scores, reference))
    return rows


def apart(scores: Sequence[Sequence[Sequence[float]]], reference: Sequence[Sequence[Sequence[float]]]) -> Row:
    """How far the scores of games are from others of the same games, in nats a command; and how often both prefer the
    same one."""
    steps = [pair for games in zip(scores, reference, strict=True) for pair in zip(*games, strict=True)]
    distances = [abs(a - b) for one, other in steps for a, b in zip(one, other, strict=True)]
    same = [max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__) for a, b in steps]
    return {
        "commands": len(distances),
        "largest": max(distances),
        "mean": sum(distances) / len(distances),
        "same": sum(same) / len(same),
    }
