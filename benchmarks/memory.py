"""Recall, inserts, memory and start-up at growing sizes: ours, raw FAISS, LangGraph's InMemoryStore, Chroma, mem0.

    python benchmarks/memory.py [--sizes N ...] [--systems NAME ...] [--peer-python PATH] [--limit SECONDS]
                                [--clock wall|cpu]

All get the same vectors (384 dimensions, made, so that no embedder is timed), texts and queries. Each fills itself in
one process and is opened and asked in another, on one thread; what is missing or too slow is said. Chroma and mem0 run
under `--peer-python`, whose environment has `chromadb` and `mem0ai`.

Ours is the whole `ReflectionMemory.recall`: words and meaning, all parts of the score, diversity; nothing is recorded,
as no other system records. Its order is not that of the vectors alone, so its recall@10 is that of its index. Every
process is asked some other queries before those that are timed, as one that has been at work for a while. Start-up is
from the import of the system to the answer to the very first query. Memory is what the asked process holds, without
files that are only mapped. Up to 10,000 items each is opened and asked three times, in turn with the others, and the
medians of these count: a machine is not always as quick. The exit code is 1 if a bound is broken: at 100,000 items a
median of at most 3 times that of raw FAISS and start-up within a second; at 10,000 at least 50 times faster than
InMemoryStore; everywhere a recall@10 of at least 0.98.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ != "__main__":
    raise ImportError("benchmarks/memory.py was found in place of the package `memory`; import `machine` before it")

import faiss
import numpy as np
from machine import describe
from vectors import clustered

SYSTEMS = ("flat", "ours", "our index", "InMemoryStore", "Chroma", "mem0")
TITLES = {"flat": "FAISS, flat", "ours": "ours, recall", "our index": "ours, index alone"}
PEERS = ("Chroma", "mem0")
QUERIES = 300
"""Queries that are timed; before them as many others are asked that are not."""
TURNS, SHORT = 3, 10_000
"""Up to so many items each is asked so many times, in turn with the others: a machine is not always as quick."""
FLAT_RATIO, STORE_RATIO, START, WANTED = 3.0, 50.0, 1.0, 0.98


@dataclass(frozen=True)
class Row:
    """What one system did at one size; `note` says what is not as it should be, and then the rest may be missing."""

    system: str
    size: int
    note: str = ""
    items: int = 0
    p50: float = 0.0
    p99: float | None = None
    recall: float | None = None
    inserts: float | None = None
    start: float = 0.0
    resident: float = 0.0
    graph: str = ""


def run(python: str, system: str, action: str, folder: Path, count: int, limit: float, clock: str) -> dict[str, Any]:
    """What one process of a system says, or why it says nothing."""
    script = Path(__file__).with_name("memory_systems.py")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [python, "-P", str(script), system, action, str(folder), str(count), str(limit), clock]
    env = {**os.environ, **threads, "TQDM_DISABLE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20 * limit + 600)
    except subprocess.TimeoutExpired:
        return {"missing": "did not come to an end"}
    if done.returncode:
        return {"missing": f"failed: {(done.stderr.strip().splitlines() or ['killed'])[-1][:100]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def filled(python: str, system: str, folder: Path, size: int, limit: float, clock: str) -> dict[str, Any]:
    """Fill the system, except where it is filled otherwise: the index with the memory, what is not kept where it is
    asked."""
    if system in ("our index", "InMemoryStore"):
        return {}
    # Ours and raw FAISS are never cut short: the bounds are theirs.
    return run(python, system, "fill", folder, size, limit if system in PEERS else 3600, clock)


def judged(system: str, folder: Path, size: int, limit: float, turns: list[dict[str, Any]], exact: np.ndarray) -> Row:
    """What a system did: `turns` are what it said when it was filled and each time that it was asked. Of several times
    that it was asked the median counts. `exact` holds the cosine of the tenth nearest for each query."""
    name = TITLES.get(system, system)
    missing = [turn["missing"] for turn in turns if "missing" in turn]
    if missing:
        return Row(name, size, note=missing[0])
    put, *asked = turns
    put = put or asked[0]
    items = put.get("items", size)
    share = None
    if system != "ours" and items == size:
        vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
        share = float(
            np.mean(
                [
                    np.sum(vectors[answer] @ queries[number] >= exact[number] - 1e-6) / 10
                    for number, answer in enumerate(asked[0]["answers"])
                ]
            )
        )
    fewest = min(len(one["ms"]) for one in asked)
    notes = [f"{items:,} items in {limit:.0f} s, then stopped"] if items < size else []
    notes += [f"{fewest} queries"] if fewest < QUERIES else []
    notes += ["keeps nothing: filled anew"] if system == "InMemoryStore" else []
    graph = ""
    if put.get("build", 0) > 1:
        graph = f"{size:,} items: the graph took {put['build']:.0f} s more (list of {put['list']})"

    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return float(np.median([of(one) for one in asked]))

    return Row(
        name, size, "; ".join(notes), items,
        p50=median(lambda one: np.median(one["ms"])),
        p99=median(lambda one: np.percentile(one["ms"], 99)) if fewest >= 100 else None,
        recall=share,
        inserts=put["items"] / put["seconds"] if "seconds" in put else None,
        start=median(lambda one: one["opened"]), resident=median(lambda one: one["resident"]), graph=graph,
    )  # fmt: skip


def shown(row: Row) -> str:
    """A line of the table."""
    if not row.items:
        return f"| {row.size:,} | {row.system} | | | | | | | {row.note} |"
    cells = [
        f"{row.p50:.2f}",
        "" if row.p99 is None else f"{row.p99:.2f}",
        "" if row.recall is None else f"{row.recall:.3f}",
        "" if row.inserts is None else f"{row.inserts:,.0f}",
        f"{row.start:.2f}",
        f"{row.resident:,.0f}",
        row.note,
    ]
    return f"| {row.size:,} | {row.system} | " + " | ".join(cells) + " |"


def bounds(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The ratios of each size, and what is broken."""
    said, broken = [], []
    for size in sorted({row.size for row in rows}):
        here = {row.system: row for row in rows if row.size == size and row.items == size}
        ours, index = here.get(TITLES["ours"]), here.get(TITLES["our index"])
        if not ours:
            continue
        line = [f"- {size:,} items: ours takes"]
        if flat := here.get(TITLES["flat"]):
            ratio = ours.p50 / flat.p50
            line.append(f"{ratio:.2f} times as long as raw FAISS;")
            if size == 100_000 and ratio > FLAT_RATIO:
                broken.append(f"{ratio:.2f} times raw FAISS at {size:,} items, the bound is {FLAT_RATIO:g}")
        for peer in ("InMemoryStore", *PEERS):
            if peer in here:
                ratio = here[peer].p50 / ours.p50
                line.append(f"{peer} {ratio:.1f} times as long as ours;")
                if peer == "InMemoryStore" and size == 10_000 and ratio < STORE_RATIO:
                    broken.append(f"only {ratio:.0f} times faster than InMemoryStore at {size:,} items")
        said.append(" ".join(line).rstrip(";") + ".")
        if size == 100_000 and ours.start > START:
            broken.append(f"start-up takes {ours.start:.2f} s at {size:,} items")
        if index and index.recall is not None and index.recall < WANTED:
            broken.append(f"recall@10 is {index.recall:.3f} at {size:,} items")
    return said, broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sizes", type=int, nargs="+", default=(1_000, 10_000, 100_000))
    options.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    options.add_argument("--peer-python", default=sys.executable, help="the Python that has chromadb and mem0ai")
    options.add_argument("--limit", type=float, default=120, help="seconds that a peer may take to fill or to answer")
    options.add_argument("--folder", type=Path, help="where the systems keep their files while they are measured")
    options.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    given = options.parse_args(arguments)
    faiss.omp_set_num_threads(1)
    clock = "wall clock" if given.clock == "wall" else "processor time, not wall clock"
    print(f"{describe(1)}, faiss {faiss.__version__}; {clock}\n")
    print("| items | system | p50 ms | p99 ms | recall@10 | inserts/s | start-up s | memory MiB | |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for size in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as place:
            folder = Path(place)
            vectors = clustered(size + 2 * QUERIES)
            np.save(folder / "vectors.npy", vectors[:size])
            np.save(folder / "queries.npy", vectors[size:])
            exact, _ = faiss.knn(vectors[size : size + QUERIES], vectors[:size], 10, metric=faiss.METRIC_INNER_PRODUCT)
            del vectors
            pythons = {name: given.peer_python if name in PEERS else sys.executable for name in given.systems}
            common = (folder, size, given.limit, given.clock)
            turns = {name: [filled(python, name, *common)] for name, python in pythons.items()}
            for _ in range(TURNS if size <= SHORT else 1):
                for name, python in pythons.items():
                    if "missing" not in turns[name][-1]:
                        turns[name].append(run(python, name, "ask", *common))
            for name, heard in turns.items():
                rows.append(judged(name, folder, size, given.limit, heard, exact[:, -1]))
                print(shown(rows[-1]), flush=True)
    said, broken = bounds(rows)
    print("\n" + "\n".join([*said, *(f"- {row.graph}." for row in rows if row.graph)]))
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
