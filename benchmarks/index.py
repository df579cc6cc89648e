"""When does a graph pay, and does it find what exhaustive search finds?

    python benchmarks/index.py [--sizes N ...] [--hard N] [--settings]

For each size, the same vectors and queries: exact search; the index with its graph, built and measured as it does by
itself; and the graph with a filter that lets in half or a tenth of the items, at random or all that lie on the far side
of the first query. `--hard` adds vectors in every direction alike, and each vector eighty times over. `--settings`
compares numbers of links and lists at building. The exit code is 1 if the graph serves anywhere with a recall@10
below 0.98.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import describe
from vectors import DIMENSIONS, clustered, uniform

from memory import VectorIndex
from memory.index import Entries, graph

QUERIES = 200
WANTED = 0.98


class Rows:
    """A source whose texts are the numbers of vectors, from 1 on."""

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors

    def entries(self, after: int = -1) -> Entries | np.ndarray:
        numbers = np.arange(max(0, after) + 1, len(self.vectors) + 1)
        return np.stack([numbers, numbers, numbers], axis=1)

    def texts(self, numbers: Sequence[int]) -> list[str]:
        return [str(number) for number in numbers]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self.vectors[[int(text) - 1 for text in texts]]


def timed(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list[Any], float]:
    """The answers and the median of the milliseconds."""
    answers, times = [], []
    for query in queries:
        began = time.perf_counter()
        answers.append(search(query))
        times.append(1000 * (time.perf_counter() - began))
    return answers, median(times)


def recall(answers: Sequence[Sequence[tuple[int, float]]], queries: np.ndarray, vectors: np.ndarray) -> float:
    """The share of the ten nearest of `vectors` in the answers, by cosine, since of equally near ones each is right."""
    import faiss

    exact, _ = faiss.knn(queries, vectors, 10, metric=faiss.METRIC_INNER_PRODUCT)
    least = exact[:, -1] - 1e-6
    return float(np.mean([[cosine >= low for _, cosine in answer] for answer, low in zip(answers, least, strict=True)]))


def measure(name: str, vectors: np.ndarray, queries: np.ndarray, folder: Path) -> list[tuple[str, float]]:
    """Print the rows of one set of vectors; the recalls with which its graph serves."""
    import faiss

    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(vectors)
    _, exact = timed(lambda query: flat.search(query[None], 10), queries)
    print(f"| {name} | {len(vectors):,} | flat, FAISS | {exact:.2f} | 1.000 | | |", flush=True)
    said: list[str] = []
    source = Rows(vectors)
    index = VectorIndex(folder / "index", "rows", DIMENSIONS, notify=said.append, expected=False, threshold=1)
    index.follow(source, source.embed)
    began = time.perf_counter()
    index.build()
    seconds = time.perf_counter() - began
    stats = index.stats()
    if stats.kind == "flat":
        share = f"finds {said[-1].partition('finds only ')[2].partition(' of')[0]} in less time: not used"
        print(f"| {name} | {len(vectors):,} | graph | | {share} | | {seconds:.0f} |", flush=True)
        return []
    found = []
    chance = np.random.default_rng(1)
    far = vectors @ queries[0] < np.median(vectors @ queries[0])
    for label, wanted in (
        ("graph", None),
        ("graph, half let in", chance.random(len(vectors)) < 0.5),
        ("graph, a tenth let in", chance.random(len(vectors)) < 0.1),
        ("graph, the far half let in", far),
    ):
        only = None if wanted is None else np.flatnonzero(wanted) + 1
        answers, ms = timed(lambda query, only=only: index.search(query, 10, only=only), queries)  # type: ignore[misc]
        share = recall(answers, queries, vectors if wanted is None else vectors[wanted])
        extra = f"{stats.list_length} | {seconds:.0f}" if wanted is None else "|"
        print(f"| {name} | {len(vectors):,} | {label} | {ms:.2f} | {share:.3f} | {extra} |", flush=True)
        found.append((f"{name}, {len(vectors):,}, {label}", share))
    return found


def settings(vectors: np.ndarray, queries: np.ndarray) -> None:
    """Print what links and building lists cost and give."""
    print("\n| links | building list | build s | searching list | ms | recall@10 |\n|---|---|---|---|---|---|")
    for links, building in ((16, 100), (32, 100), (32, 200), (48, 100)):
        graph.LINKS, graph.BUILD_LIST = links, building
        made = graph.Graph(DIMENSIONS)
        began = time.perf_counter()
        for start in range(0, len(vectors), 1024):
            made.add(vectors[start : start + 1024])
        seconds = time.perf_counter() - began
        for length in (64, 256, 1024):
            made.list_length = length - 20
            answers, ms = timed(lambda query: [(0, cosine) for cosine in made.search(query, 10)[1]], queries)  # noqa: B023
            share = recall(answers, queries, vectors)
            print(f"| {links} | {building} | {seconds:.0f} | {length} | {ms:.2f} | {share:.3f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if a graph serves that finds too little."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sizes", type=int, nargs="+", default=(20_000, 100_000))
    options.add_argument("--hard", type=int, help="size of the hard cases")
    options.add_argument("--settings", type=int, help="size at which settings are compared")
    given = options.parse_args(arguments)
    print(f"{DIMENSIONS} dimensions; {describe(1)}\n")
    print("| vectors | n | search | p50 ms | recall@10 | list | build s |\n|---|---|---|---|---|---|---|")
    cases: list[tuple[str, int]] = [("clustered", size) for size in given.sizes]
    if given.hard:
        cases += [("uniform", given.hard), ("each 80 times", given.hard)]
    found: list[tuple[str, float]] = []
    for name, size in cases:
        drawn = (uniform if name == "uniform" else clustered)(size + QUERIES)
        vectors, queries = drawn[:size], drawn[size:].copy()
        if name == "each 80 times":
            vectors = np.tile(vectors[: size // 80], (80, 1))
        with tempfile.TemporaryDirectory() as folder:
            found += measure(name, vectors, queries, Path(folder))
    if given.settings:
        drawn = clustered(given.settings + QUERIES)
        settings(drawn[: given.settings], drawn[given.settings :])
    broken = [f"recall@10 is {share:.3f}: {label}" for label, share in found if share < WANTED]
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in broken) or "All bounds hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
