"""What is found and how fast: ours, FTS5, raw FAISS, their fusion, LangGraph stores, Chroma, mem0, at growing sizes.

    python benchmarks/memory.py [--sizes N ...] [--vocabularies NAME ...] [--systems NAME ...] [--peer-python PATH]
                                [--limit SECONDS] [--clock wall|cpu] [--table FILE]

All get the same vectors (384 dimensions, made, so that no embedder is timed), texts and questions (`texts.py`). A
question asks for a known item: it names 60 % of the words of one text, in any order. Its vector lies near that of the
text in two of three cases; in the third the embedder has missed, and only the words can find it. "Found" is the share
of the questions whose text is among the first 32: it stands beside the latency of the same questions.

Each system fills itself in one process and is opened and asked in another, on one thread; what is missing or too slow
is said. Chroma and mem0 run under `--peer-python`, whose environment has `chromadb` and `mem0ai`. Every process is
asked some other questions before those that are timed. Start-up is from the import of the system to the answer to the
very first question. Memory is what the asked process holds, without files that are only mapped. "Ours, recall" is the
whole `ReflectionMemory.recall`: words and meaning, all parts of the score, diversity; nothing is recorded, as no other
system records. "Ours, search" is `ReflectionMemory.search`, where relevance counts most. "Index alone" is search by
meaning through the same index; recall@10 is the share of the ten nearest that it finds. "FTS5 + FAISS" are what both
found, fused by reciprocal rank with the constant 60 of its authors, and what both took.

The exit code is 1 if a bound is broken: ours finds less than 0.99 at any size; at 10,000 or 100,000 items a recall
takes more than 1.5 times what FTS5 and raw FAISS take together; start-up takes more than a second at 100,000; recall@10
is below 0.98.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

if __name__ == "memory":
    raise ImportError("benchmarks/memory.py was found in place of the package `memory`; import `machine` before it")

import faiss
import numpy as np
from machine import describe
from texts import VOCABULARIES, wanted
from vectors import clustered, normal

TITLE = "# Recall beside other memories: what is found, and how fast"
SYSTEMS = (
    "flat", "fts5", "ours", "our search", "our index", "our store", "InMemoryStore", "Chroma", "mem0",
)  # fmt: skip
TITLES = {
    "flat": "FAISS, flat", "fts5": "FTS5, bm25", "fusion": "FTS5 + FAISS", "ours": "ours, recall",
    "our search": "ours, search", "our index": "ours, index alone", "our store": "ours, LangGraph store",
}  # fmt: skip
PEERS = ("Chroma", "mem0")
OTHERWISE = ("our search", "our index", "InMemoryStore")
"""Filled with another system, or, what keeps nothing, where it is asked."""
NEAREST, QUERIES = 32, 100
"""How many answers each question gets; how many questions are timed, after some others."""
MISSED, AWAY = 1 / 3, 1.0
"""The share of the questions whose vector says nothing of the text; how far the others are moved from it."""
FOUND, RATIO, START, WANTED = 0.99, 1.5, 1.0, 0.98
BOUND = (10_000, 100_000)
"""At these sizes a recall is held to the sum of FTS5 and FAISS."""


@dataclass(frozen=True)
class Row:
    """What one system did at one size; `note` says what is not as it should be, and then the rest may be missing."""

    vocabulary: str
    system: str
    size: int
    note: str = ""
    items: int = 0
    p50: float = 0.0
    p99: float | None = None
    found: float = 0.0
    recall: float | None = None
    inserts: float | None = None
    start: float = 0.0
    resident: float = 0.0
    graph: str = ""


def queries(vocabulary: str, vectors: np.ndarray) -> np.ndarray:
    """The vectors of the questions: (2 QUERIES, dimensions). Those of the items are `vectors`."""
    chance = np.random.default_rng(len(vectors))
    items = [wanted(vocabulary, number, len(vectors)) for number in range(2 * QUERIES)]
    moved = vectors[items] + AWAY * normal(chance.standard_normal((2 * QUERIES, vectors.shape[1]), np.float32))
    missed = chance.random(2 * QUERIES) < MISSED
    moved[missed] = vectors[chance.integers(len(vectors), size=int(missed.sum()))]
    return normal(moved)


def run(
    python: str, system: str, vocabulary: str, action: str, folder: Path, count: int, limit: float, clock: str
) -> dict[str, Any]:
    """What one process of a system says, or why it says nothing."""
    script = Path(__file__).with_name("memory_process.py")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [python, "-P", str(script), system, vocabulary, action, str(folder), str(count), str(limit), clock]
    env = {**os.environ, **threads, "TQDM_DISABLE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20 * limit + 600)
    except subprocess.TimeoutExpired:
        return {"missing": "did not come to an end"}
    if done.returncode:
        return {"missing": f"failed: {(done.stderr.strip().splitlines() or ['killed'])[-1][:100]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def filled(
    python: str, system: str, vocabulary: str, folder: Path, size: int, limit: float, clock: str
) -> dict[str, Any]:
    """Fill the system, except where it is filled otherwise."""
    if system in OTHERWISE:
        return {}
    # Ours, FTS5 and raw FAISS are never cut short: the bounds are theirs.
    return run(python, system, vocabulary, "fill", folder, size, limit if system in PEERS else 3600, clock)


def judged(
    vocabulary: str, system: str, folder: Path, size: int, limit: float, turns: list[dict[str, Any]], exact: np.ndarray
) -> Row:
    """What a system did: `turns` are what it said when it was filled and when it was asked.

    `exact` holds the cosine of the tenth nearest for each question.
    """
    name = TITLES.get(system, system)
    missing = [turn["missing"] for turn in turns if "missing" in turn]
    if missing:
        return Row(vocabulary, name, size, note=missing[0])
    put, one = turns
    put = put or one
    items = put.get("items", size)
    share = None
    if system == "our index":
        vectors, asked = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
        near = [np.sum(vectors[answer[:10]] @ asked[number] >= exact[number] - 1e-6) / 10
                for number, answer in enumerate(one["answers"])]  # fmt: skip
        share = float(np.mean(near))
    hit = [wanted(vocabulary, number, size) in answer for number, answer in enumerate(one["answers"])]
    fewest = len(one["ms"])
    notes = [f"{items:,} items in {limit:.0f} s, then stopped"] if items < size else []
    notes += [f"{fewest} queries"] if fewest < QUERIES else []
    notes += ["keeps nothing: filled anew"] if system == "InMemoryStore" else []
    graph = ""
    if put.get("build", 0) > 1:
        graph = f"{size:,} items: the graph took {put['build']:.0f} s more (list of {put['list']})"

    return Row(
        vocabulary, name, size, "; ".join(notes), items,
        p50=float(np.median(one["ms"])),
        p99=float(np.percentile(one["ms"], 99)) if fewest >= 100 else None,
        found=float(np.mean(hit)), recall=share,
        inserts=put["items"] / put["seconds"] if "seconds" in put else None,
        start=one["opened"], resident=one["resident"], graph=graph,
    )  # fmt: skip


def fusion(vocabulary: str, size: int, parts: Sequence[tuple[Row, list[list[int]]]]) -> Row:
    """What rows of the same questions come to, asked one after the other and fused by reciprocal rank."""
    hits = []
    for number, answers in enumerate(zip(*(answers for _, answers in parts), strict=False)):
        fused: dict[int, float] = {}
        for answer in answers:
            for rank, item in enumerate(answer, 1):
                fused[item] = fused.get(item, 0.0) + 1 / (60 + rank)
        first = sorted(fused, key=lambda item: -fused[item])[:NEAREST]
        hits.append(wanted(vocabulary, number, size) in first)
    rows = [row for row, _ in parts]
    return Row(
        vocabulary, TITLES["fusion"], size, items=size, p50=sum(row.p50 for row in rows), found=float(np.mean(hits)),
        start=sum(row.start for row in rows), resident=sum(row.resident for row in rows),
    )  # fmt: skip


def shown(row: Row) -> str:
    """A line of the table."""
    head = f"| {row.vocabulary} | {row.size:,} | {row.system} |"
    if not row.items:
        return f"{head} | | | | | | | {row.note} |"
    cells = [
        f"{row.found:.2f}",
        f"{row.p50:.2f}",
        "" if row.p99 is None else f"{row.p99:.2f}",
        "" if row.recall is None else f"{row.recall:.3f}",
        "" if row.inserts is None else f"{row.inserts:,.0f}",
        f"{row.start:.2f}",
        f"{row.resident:,.0f}",
        row.note,
    ]
    return f"{head} " + " | ".join(cells) + " |"


def bounds(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The ratios of each size, and what is broken."""
    said, broken = [], []
    for vocabulary, size in dict.fromkeys((row.vocabulary, row.size) for row in rows):
        here = {row.system: row for row in rows if (row.vocabulary, row.size, row.items) == (vocabulary, size, size)}
        what = f"{size:,} items of {vocabulary}"
        for name in ("ours", "our search"):
            row = here.get(TITLES[name])
            if row and row.found < FOUND:
                broken.append(f"{row.system} finds {row.found:.2f} of {what}")
        index, ours = here.get(TITLES["our index"]), here.get(TITLES["ours"])
        if index and index.recall is not None and index.recall < WANTED:
            broken.append(f"recall@10 is {index.recall:.3f} at {what}")
        if not ours:
            continue
        if size == 100_000 and ours.start > START:
            broken.append(f"start-up takes {ours.start:.2f} s at {what}")
        words, flat = here.get(TITLES["fts5"]), here.get(TITLES["flat"])
        line = []
        if words and flat:
            ratio = ours.p50 / (words.p50 + flat.p50)
            line.append(f"a recall takes {ratio:.2f} times as long as FTS5 and raw FAISS together")
            if size in BOUND and ratio > RATIO:
                broken.append(f"{ratio:.2f} times FTS5 and FAISS at {what}, the bound is {RATIO:g}")
        line += [
            f"{peer} {here[peer].p50 / ours.p50:.1f} times as long as ours"
            for peer in ("InMemoryStore", *PEERS)
            if peer in here
        ]
        said.append(f"- {what}: {'; '.join(line)}.")
    return said, broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a bound is broken."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sizes", type=int, nargs="+", default=(1_000, 5_000, 10_000, 20_000, 100_000))
    options.add_argument("--vocabularies", nargs="+", choices=VOCABULARIES, default=tuple(VOCABULARIES))
    options.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    options.add_argument("--peer-python", default=sys.executable, help="the Python that has chromadb and mem0ai")
    options.add_argument("--limit", type=float, default=60, help="seconds that a peer may take to fill or to answer")
    options.add_argument("--folder", type=Path, help="where the systems keep their files while they are measured")
    options.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    options.add_argument("--table", type=Path, help="also write what is printed into this Markdown file")
    given = options.parse_args(arguments)
    faiss.omp_set_num_threads(1)
    told: list[str] = []

    def tell(*lines: str) -> None:
        print(*lines, sep="\n", flush=True)
        told.extend(lines)

    clock = "wall clock" if given.clock == "wall" else "processor time, not wall clock"
    tell(f"{describe(1)}, FAISS {faiss.__version__}, SQLite {sqlite3.sqlite_version}; {clock}.", "")
    tell("| texts | items | system | found | p50 ms | p99 ms | recall@10 | inserts/s | start-up s | memory MiB | |")
    tell("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for size, vocabulary in product(given.sizes, given.vocabularies):
        with tempfile.TemporaryDirectory(dir=given.folder) as place:
            folder = Path(place)
            vectors = clustered(size)
            asked = queries(vocabulary, vectors)
            np.save(folder / "vectors.npy", vectors)
            np.save(folder / "queries.npy", asked)
            exact, _ = faiss.knn(asked[:QUERIES], vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)
            del vectors
            common = (folder, size, given.limit, given.clock)
            parts = {}
            for name in given.systems:
                python = given.peer_python if name in PEERS else sys.executable
                heard = [filled(python, name, vocabulary, *common)]
                if "missing" not in heard[0]:
                    heard.append(run(python, name, vocabulary, "ask", *common))
                rows.append(judged(vocabulary, name, folder, size, given.limit, heard, exact[:, -1]))
                tell(shown(rows[-1]))
                if name in ("flat", "fts5") and rows[-1].items:
                    parts[name] = (rows[-1], heard[-1]["answers"])
                    if len(parts) == 2:
                        rows.append(fusion(vocabulary, size, list(parts.values())))
                        tell(shown(rows[-1]))
    said, broken = bounds(rows)
    tell("", *said, *(f"- {row.graph}." for row in rows if row.graph))
    tell("", *([f"BROKEN: {line}" for line in broken] or ["All bounds hold."]))
    if given.table:
        command = shlex.join(["python", "benchmarks/memory.py", *(sys.argv[1:] if arguments is None else arguments)])
        made = f"Made on {date.today().isoformat()} by `{command}`."
        about = (__doc__ or "").split("\n\n", 2)[2].rstrip()
        given.table.write_text("\n\n".join([TITLE, made, about, "\n".join(told)]) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
