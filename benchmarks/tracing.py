"""What tracing costs a step: off, and on, against none; and against a step of a real model.

    python benchmarks/tracing.py [--episodes N] [--model M]

A scripted engine plays the same games of the toy environment, with memory, as `Lab.run` plays them: where nothing asks
for spans (`none`: whoever asks is given, at once, a span that does nothing), where tracing is off, and where the spans
are written into a file, the same with all that was said, and encoded for a collector. Each way has a lab of its own, so
that each learns the same. By turns, since a machine's speed drifts; in processor time of the whole process, so that
what is done in the background counts. A real model plays such games too. The exit code is 1 if a way plays otherwise,
or if spans add 1 % of the model's step to a step.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from machine import describe

from agentlab import Arm, Lab, LabConfig, RecallConfig, Task, tracing
from agentlab.agent import episode, graph, recall
from agentlab.agent.rollout import rollout_of
from agentlab.engines import model
from agentlab.engines.scripted import ScriptedEngine
from agentlab.tracing.span import CAPTURE

LIMIT = 0.01
ENV = "toy/doors?rooms=5,step_limit=40"
ARM = Arm("memory", recall=RecallConfig())

Way = Callable[[], Any]
"""What a step is played under."""


def wanders(text: str, command: str) -> float:
    """Looks around, and reads, and never opens a door: each game is as long as it may be."""
    return {"look": -0.1, "read note": 0.0}.get(command, -1e6)


def nothing(*_: object, **__: object) -> tracing.Span:
    """A span that does nothing, whatever for."""
    return tracing.OFF


@contextmanager
def none() -> Iterator[None]:
    """Nobody looks whether anybody listens."""
    seams = [(module, "spans") for module in (episode, graph, recall, model)]
    kept = [getattr(*seam) for seam in seams]
    spans = {name: nothing for one in kept for name in vars(one)}
    asking, tracing.span, tracing.workflow = (tracing.span, tracing.workflow), nothing, nothing
    for module, name in seams:
        setattr(module, name, SimpleNamespace(**spans))
    try:
        yield
    finally:
        tracing.span, tracing.workflow = asking
        for (module, name), before in zip(seams, kept, strict=True):
            setattr(module, name, before)


@contextmanager
def listening(processor: Any, content: str = "") -> Iterator[None]:
    """All spans go to this processor."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    before, trace._TRACER_PROVIDER = trace._TRACER_PROVIDER, provider  # it can be set once otherwise
    os.environ[CAPTURE] = content
    try:
        yield
        provider.force_flush()
    finally:
        trace._TRACER_PROVIDER = before
        os.environ.pop(CAPTURE)


@contextmanager
def off() -> Iterator[None]:
    """As it is where nobody asked for spans."""
    yield


def ways(folder: Path) -> dict[str, Way]:
    """The ways to play, as far as what they need is installed."""
    found: dict[str, Way] = {"none": none, "off": off}
    try:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter

        from agentlab.tracing.lines import Lines
    except ImportError:
        return found
    lines = SimpleSpanProcessor(Lines(folder / "spans.jsonl"))
    found["into a file"] = lambda: listening(lines)
    found["into a file, with content"] = lambda: listening(lines, "true")
    try:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    except ImportError:
        return found

    class Encoded(SpanExporter):
        """Encodes for a collector, which there is not."""

        def export(self, spans: Sequence[Any]) -> Any:
            encode_spans(spans).SerializeToString()

    batches = BatchSpanProcessor(Encoded())
    found["for a collector"] = lambda: listening(batches)
    return found


def played(lab: Lab, run: str, seed: int) -> tuple[list[tuple[str, float]], float]:
    """What was done and scored in a game, and the processor time of a step, in seconds."""
    rollout = rollout_of(lab, run, ARM)
    rollout.concurrency = 1
    began = time.process_time()
    (result,) = rollout.play([Task(env=ENV, split="train", seed=seed)], ARM)
    took = time.process_time() - began
    rollout.close()
    steps = lab.database.episodes.get(result.trials[0].episode).steps
    return [(step.action, step.score) for step in steps], took / len(steps)


def measured(labs: dict[str, Lab], under: dict[str, Way], games: int) -> tuple[dict[str, list[float]], bool]:
    """Seconds a step by way, one number a game, and whether all ways played the same."""
    found: dict[str, list[float]] = {name: [] for name in under}
    same = True
    for number in range(-1, games):  # the first is for warming up
        done = []
        for turn in range(len(under)):
            name = list(under)[(turn + number) % len(under)]
            with under[name]():
                steps, took = played(labs[name], f"run {number}", number + 1)
            done.append(steps)
            if number >= 0:
                found[name].append(took)
        same = same and all(steps == done[0] for steps in done)
    return found, same


def opened(stack: ExitStack, folder: Path, names: Sequence[str], **settings: Any) -> dict[str, Lab]:
    """A lab for each way."""
    engine = settings.pop("engine", None)
    config = LabConfig(embedder="hashing", threads=1, concurrency=1, **settings)
    return {
        name: stack.enter_context(
            Lab.open(folder / str(number), create=True, engine=engine, config=config, progress=False)
        )
        for number, name in enumerate(names)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the bound is broken, or a way plays otherwise."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--games", type=int, default=200)
    options.add_argument("--model", default="SmolLM2-135M-Instruct", help="the real one; '' measures none")
    given = options.parse_args(arguments)
    print(f"{ENV}; {describe(1)}\n")
    real = float("inf")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        under = ways(Path(scratch))
        labs = opened(stack, Path(scratch), list(under), engine=ScriptedEngine(wanders))
        found, same = measured(labs, under, given.games)
        if given.model:
            labs = opened(stack, Path(scratch) / "real", ["off"], model=given.model)
            steps, _ = measured(labs, {"off": off}, 5)
            real = median(steps["off"])
            print(f"A step of {given.model}: {1000 * real:.1f} ms of processor time.\n")
    print("| tracing | ms a step | ratio to none | added, µs a step | of the model's step |\n|---|---|---|---|---|")
    worst = 0.0
    for name, took in found.items():
        pairs = list(zip(took, found["none"], strict=True))
        ratio, added = median(one / other for one, other in pairs), median(one - other for one, other in pairs)
        worst = max(worst, added / real)
        share = f"{100 * added / real:.3f} %" if given.model else "–"
        print(f"| {name} | {1000 * median(took):.3f} | {ratio:.3f} | {1e6 * added:+.0f} | {share} |")
    print(f"\nAll ways {'play the same' if same else 'DO NOT play the same'}; the bound is {100 * LIMIT:.0f} %.")
    return int(not same or worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
