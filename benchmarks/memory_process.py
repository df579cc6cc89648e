"""One memory system in one process: filled, or opened again and asked. `memory.py` starts it; it answers in JSON.

    python -P benchmarks/memory_process.py SYSTEM VOCABULARY fill|ask FOLDER COUNT SECONDS wall|cpu

FOLDER holds `vectors.npy` (at least COUNT rows) and `queries.npy` (those that are timed, then as many others); the
system keeps its files in FOLDER/SYSTEM. With `-P` this folder is not searched for imports: `memory` is the package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

BATCH = 100
"""Items that are put in at once, where the system takes several."""
FIRST = 20
"""Questions before those that are timed."""


def _neighbour(name: str) -> Any:
    """A module of this folder, which is not searched for imports; from then on it can be imported."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_neighbour("texts")
systems = _neighbour("memory_systems")


def parts(count: int) -> Iterator[range]:
    """Numbers below `count`, some at a time."""
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def filled(system: Any, count: int, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
    """Put in `count` items, or as many as `seconds` allow."""
    began, done = clock(), 0
    for numbers in parts(count):
        system.put(numbers)
        done = numbers.stop
        if clock() - began > seconds:
            break
    put = clock() - began
    said = system.finish()
    return {"build": 0.0, **said, "items": done, "seconds": put + said.get("saved", 0.0)}


def asked(system: Any, queries: int, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
    """The answers to the queries, or to as many as `seconds` allow, and the milliseconds of each.

    Before that some other queries are asked, for at most a quarter of the time.
    """
    questions, first = [systems.question(number) for number in range(2 * queries)], clock()
    for said in questions[queries : queries + FIRST]:
        if clock() - first > seconds / 4:
            break
        system.ask(said)
    answers, times, first = [], [], clock()
    for said in questions[:queries]:
        began = clock()
        answers.append(system.ask(said))
        times.append(1000 * (clock() - began))
        if clock() - first > seconds and len(times) >= 5:
            break
    return {"answers": answers, "ms": times}


def resident() -> float:
    """What this process holds in memory, in MiB, files that are only mapped left out."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


def main(name: str, vocabulary: str, action: str, place: str, count: str, seconds: str, by: str) -> None:
    """Do it and print what was found."""
    systems.VOCABULARY, systems.SIZE = vocabulary, int(count)
    vectors, clock = systems.Vectors(Path(place)), systems.CLOCKS[by]
    began = clock()
    try:
        folder = "ours" if name in ("ours", "our search", "our index") else name
        system = systems.SYSTEMS[name](vectors, Path(place) / folder)
    except ImportError as error:
        print(json.dumps({"missing": str(error).splitlines()[0]}))
        return
    found: dict[str, Any] = {}
    if action == "fill" or not system.kept:
        found = filled(system, int(count), float(seconds), clock)
    if action == "ask":
        system.ask(systems.question(0))
        found["opened"] = clock() - began
        found |= asked(system, len(vectors.queries) // 2, float(seconds), clock)
    print(json.dumps({**found, "resident": resident()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
