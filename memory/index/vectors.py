"""Rows of vectors: searched exactly, or through a graph that grows over them from the first row on."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from memory.index.graph import Graph, library

if TYPE_CHECKING:
    import numpy as np

SCATTER = 3
"""What reading a row out of turn costs, in rows that are read in turn (measured: 165 ns against 50 ns)."""
SLACK = 1.25
"""By how much deeper a graph is searched than a filter or dead rows would make necessary on average."""

GROUPS = 32
"""So many rows are first looked at as one where only the best of many are wanted (measured: five times as fast)."""


class Vectors:
    """Rows of vectors of length 1: float32, (len, dimensions). No two are equal, and a row keeps its number.

    The first `graphed` rows are held by the graph, which needs them for itself; the others, the rest, lie beside it.
    So no vector is held twice, and what the graph has not reached yet is searched exactly.
    """

    def __init__(self, dimensions: int):
        import numpy as np

        self.dimensions = dimensions
        self.graph: Graph | None = None
        self._rest = np.empty((0, dimensions), np.float32)
        # Of the rows of `_rest`: those before `_start` have moved into the graph, those from `_end` on are room.
        self._start = self._end = 0
        # By a hash of each vector its row, in the order of the rows. Who only reads never needs it: then it is still
        # None, and `_names` are the hashes as they were in the file.
        self._places: dict[bytes, int] | None = {}
        self._names = b""

    def __len__(self) -> int:
        return self.graphed + self._end - self._start

    @property
    def graphed(self) -> int:
        """How many rows the graph holds."""
        return len(self.graph) if self.graph else 0

    @property
    def nbytes(self) -> int:
        """What vectors and graph take in memory."""
        return 4 * self.dimensions * len(self) + (self.graph.links if self.graph else 0)

    def parts(self) -> list[np.ndarray]:
        """All rows in their order, as one or two views."""
        rest = self._rest[self._start : self._end]
        return [self.graph.vectors, rest] if self.graph else [rest]

    def add(self, vectors: np.ndarray) -> list[int]:
        """The row of each of `vectors`; those that are not there yet are put after the last one."""
        import numpy as np

        vectors = np.ascontiguousarray(vectors, np.float32)
        names = [blake2b(vector, digest_size=8).digest() for vector in vectors]
        places = self._row_by_name()
        # From the last to the first, so that of equal ones the first stays.
        new = {name: place for place, name in reversed(list(enumerate(names))) if name not in places}
        fresh = sorted(new.values())
        self._more(len(fresh))[:] = vectors if len(fresh) == len(vectors) else vectors[fresh]
        places.update(zip([names[place] for place in fresh], range(len(places), len(self)), strict=True))
        return [places[name] for name in names]

    @property
    def names(self) -> np.ndarray:
        """Hashes of the vectors, eight bytes each, in the order of the rows: uint8, (8 len,)."""
        import numpy as np

        return np.frombuffer(self._names if self._places is None else b"".join(self._places), np.uint8)

    def restore(self, names: np.ndarray) -> np.ndarray:
        """The rows beside the graph, still to be written, as a view, so that a file can be read into them."""
        self._names, self._places = names.tobytes(), None
        return self._more(len(names) // 8 - self.graphed)

    def _row_by_name(self) -> dict[bytes, int]:
        if self._places is None:
            names = self._names
            self._places = {names[8 * row : 8 * row + 8]: row for row in range(len(names) // 8)}
        return self._places

    def _more(self, count: int) -> np.ndarray:
        """Room for `count` more rows after the last one."""
        import numpy as np

        if self._end + count > len(self._rest):
            held = self._rest[self._start : self._end]
            room = np.empty((max(len(held) + count, len(held) * 3 // 2), self.dimensions), np.float32)
            room[: len(held)] = held
            self._rest, self._start, self._end = room, 0, len(held)
        self._end += count
        return self._rest[self._end - count : self._end]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of these rows."""
        import numpy as np

        first, *others = self.parts()
        if not others:
            return first[rows]
        found = np.empty((len(rows), self.dimensions), np.float32)
        inside = rows < self.graphed
        found[inside] = first[rows[inside]]
        found[~inside] = others[0][rows[~inside] - self.graphed]
        return found

    def keep(self, rows: np.ndarray) -> None:
        """Keep only these rows, which are numbered anew in this order, and give up the graph."""
        names = list(self._row_by_name())
        self._places = {names[row]: place for place, row in enumerate(rows.tolist())}
        self._rest, self.graph = self.take(rows), None
        self._start, self._end = 0, len(rows)

    # Exact search

    def cosines(self, query: np.ndarray, *, start: int = 0) -> np.ndarray:
        """The inner product of `query` and every row from `start` on, which is 0 or the first row of the rest."""
        import numpy as np

        faiss = library()
        found = np.empty(len(self) - start, np.float32)
        place = 0
        for part in self.parts()[-1:] if start else self.parts():
            if len(part):
                to = found[place : place + len(part)]
                faiss.fvec_inner_products_ny(
                    faiss.swig_ptr(to), faiss.swig_ptr(query), faiss.swig_ptr(part), self.dimensions, len(part)
                )
                place += len(part)
        return found

    def cosines_of(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The inner product of `query` and each of these rows (int64, rising)."""
        import numpy as np

        faiss = library()
        if SCATTER * len(rows) > len(self):
            return self.cosines(query)[rows]
        found = np.empty(len(rows), np.float32)
        split = int(np.searchsorted(rows, self.graphed))
        places = [(rows[:split], found[:split]), (rows[split:] - self.graphed, found[split:])]
        for part, (of, to) in zip(self.parts(), places if self.graph else places[1:], strict=True):
            if len(of):
                faiss.fvec_inner_products_by_idx(
                    faiss.swig_ptr(to), faiss.swig_ptr(query), faiss.swig_ptr(part), faiss.swig_ptr(of),
                    self.dimensions, 1, len(of),
                )  # fmt: skip
        return found

    # Either way

    def nearest(self, query: np.ndarray, count: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The `count` nearest of the rows that are `wanted` (by row, true or false), and their cosines."""
        import numpy as np

        graph, many = self.graph, int(np.count_nonzero(wanted))
        if graph and graph.trusted and many:
            depth = count if many == len(wanted) else int(SLACK * count * len(wanted) / many) + 1
            if depth < len(graph) and graph.cost(depth) < min(len(wanted), SCATTER * many):
                found = self._by_graph(graph, query, count, depth, wanted)
                if found is not None:
                    return found
        if many == len(wanted):
            return _best(np.arange(many), self.cosines(query), count)
        rows = np.flatnonzero(wanted)
        return _best(rows, self.cosines_of(query, rows), count)

    def _by_graph(
        self, graph: Graph, query: np.ndarray, count: int, depth: int, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """What `nearest` answers, from the `depth` nearest in the graph and all rows beside it.

        None if something nearer than the last of it may be missing, as when a filter lets in only what is far away.
        """
        import numpy as np

        rows, cosines = graph.search(query, depth)
        if len(rows) < depth:
            return None
        last = cosines[-1]
        beside = np.arange(len(graph), len(wanted))
        if len(beside):
            rows = np.concatenate([rows, beside])
            cosines = np.concatenate([cosines, self.cosines(query, start=len(graph))])
        meant = wanted[rows]
        rows, cosines = _best(rows[meant], cosines[meant], count)
        return (rows, cosines) if len(rows) == count and cosines[-1] >= last else None

    # The graph

    def grow(self, count: int) -> int:
        """Take up to `count` rows of the rest into the graph, which is made if there is none; return how many."""
        count = min(count, self._end - self._start)
        if count:
            self.graph = self.graph or Graph(self.dimensions)
            self.graph.add(self._rest[self._start : self._start + count])
            self._start += count
            if 2 * self._start > self._end:
                self._rest = self._rest[self._start : self._end].copy()
                self._start, self._end = 0, len(self._rest)
        return count


def _best(rows: np.ndarray, cosines: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` rows of the greatest cosine, the greatest first; of equal ones the lesser row first."""
    import numpy as np

    groups = min(GROUPS, len(rows) // (4 * count)) if count else 0
    if groups > 1:
        # The `count` greatest of these peaks are of as many rows, so that no row below the least of them is meant.
        width = len(rows) // groups
        peaks = cosines[: groups * width].reshape(groups, width).max(axis=0)
        near = np.flatnonzero(cosines >= np.partition(peaks, width - count)[width - count])
        rows, cosines = rows[near], cosines[near]
    order = np.lexsort((rows, -cosines))[:count]
    return rows[order], cosines[order]
