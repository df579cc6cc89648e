"""A graph of near neighbours (HNSW), which answers in the logarithm of the time and has to prove that it answers well.

Measured by `benchmarks/index.py --settings`, on 384 dimensions and one thread of an AMD EPYC: with `LINKS` 16 instead
of 32 the graph misses two to three times as much at the same speed; building with a list of 200 instead of 100 takes up
to twice as long and gains less than a longer list when searching, which can be chosen later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LINKS = 32
"""Neighbours of a row, twice as many on the lowest level (M of Malkov and Yashunin 2018, §4)."""
BUILD_LIST = 100
"""How many candidates are kept in view while a row is put in (efConstruction)."""
SEARCH_LISTS = (64, 128, 256, 512, 1024, 2048)
"""How many candidates may be kept in view while searching (efSearch): the first that finds enough is used."""
WANTED = 0.99
"""The share of the ten nearest that a search must find on the sample, so that it is at least 0.98 on other queries."""
STEP_COST = 80
"""What one candidate of a search costs, in rows of exact search (4 µs against 50 ns)."""
SAMPLE, NEAREST = 100, 10
AWAY = 1.0
"""How far a query of the sample lies from its row: as far as a question from what answers it, a cosine of 0.71.

A query nearer by is easier, and the list that is enough for it is too short for questions.
"""


def library() -> Any:
    """FAISS, whose types do not say all that it has."""
    import faiss

    return faiss


class Graph:
    """Hierarchical navigable small world graph over rows of vectors (Malkov and Yashunin 2018), by FAISS.

    It holds its vectors. `list_length` and `recall` are what `measure` found: how many candidates a search keeps in
    view, and which share of the ten nearest it then finds. Until then the graph is not to be searched: `trusted`.

    Two rows must never be equal: equal rows link to each other until they have no way out, and then most of what lies
    around them is found no more (recall 0.61 where each vector is there a hundred times).
    """

    def __init__(self, dimensions: int, index: Any = None):
        faiss = library()
        self._index = index or faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
        # Not a part of what is written.
        self._index.hnsw.efConstruction = BUILD_LIST
        self.dimensions = dimensions
        self.list_length = 0
        self.recall = 0.0
        self.measured = 0

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def trusted(self) -> bool:
        """True if searching finds what it should."""
        return self.list_length > 0

    @property
    def links(self) -> int:
        """How many bytes the graph takes beside its vectors."""
        hnsw = self._index.hnsw
        return int(4 * (hnsw.neighbors.size() + hnsw.levels.size()) + 8 * hnsw.offsets.size())

    @property
    def vectors(self) -> np.ndarray:
        """Its rows, as a view that ends with the next `add`: (len, dimensions)."""
        faiss = library()
        flat = faiss.downcast_index(self._index.storage)
        return faiss.rev_swig_ptr(flat.get_xb(), len(self) * self.dimensions).reshape(-1, self.dimensions)

    def add(self, vectors: np.ndarray) -> None:
        """Put rows after the last one. With one thread or many, the graph is the same."""
        self._index.add(vectors)

    def cost(self, depth: int) -> int:
        """What a search to this depth costs, in rows of exact search."""
        return STEP_COST * self._list(depth)

    def search(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """About the `depth` nearest rows, the nearest first, and their cosines."""
        cosines, rows = self._search(query[None], depth, self._list(depth))
        found = rows[0] >= 0
        return rows[0][found], cosines[0][found]

    def _list(self, depth: int) -> int:
        return self.list_length + 2 * depth

    def _search(self, queries: np.ndarray, depth: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        faiss = library()
        found: tuple[np.ndarray, np.ndarray] = self._index.search(
            queries, depth, params=faiss.SearchParametersHNSW(efSearch=length)
        )
        return found

    def measure(self) -> None:
        """Find the shortest list with which a search finds what exhaustive search finds; none, if that is no faster.

        The queries are a hundred of the rows, each moved some way in a direction of its own. The row itself, which is
        the easiest to find, does not count.
        """
        import numpy as np

        rows = self.vectors
        chance = np.random.default_rng(len(rows))
        queries = rows[chance.choice(len(rows), min(SAMPLE, len(rows)), replace=False)]
        queries = _directions(queries + AWAY * _directions(chance.standard_normal(queries.shape, np.float32)))
        count = min(NEAREST + 1, len(rows))
        exact, _ = library().knn(queries, rows, count, metric=library().METRIC_INNER_PRODUCT)
        self.measured, self.list_length = len(rows), 0
        for length in SEARCH_LISTS:
            if length > SEARCH_LISTS[0] and STEP_COST * length > len(rows):
                break
            cosines, _ = self._search(queries, count, length)
            # By cosine, since among equally near ones either is right.
            found = np.count_nonzero(cosines >= exact[:, -1:] - 1e-6, axis=1)
            self.recall = float(np.mean((found - 1) / max(1, count - 1)))
            if self.recall >= WANTED:
                self.list_length = length
                break

    # In a file

    def to_bytes(self) -> np.ndarray:
        """The graph without its vectors, as FAISS writes it."""
        faiss = library()
        return faiss.serialize_index(self._index, faiss.IO_FLAG_SKIP_STORAGE)

    @classmethod
    def from_bytes(cls, content: np.ndarray, dimensions: int, rows: int) -> Graph:
        """The graph again, its `rows` vectors still to be written into `vectors`. Raises ValueError if it is another's.

        FAISS trusts what it reads: the content must have been checked.
        """
        faiss = library()
        try:
            index = faiss.deserialize_index(content, faiss.IO_FLAG_SKIP_STORAGE)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        if not isinstance(index, faiss.IndexHNSWFlat) or (index.d, index.ntotal) != (dimensions, rows):
            raise ValueError("another index")
        flat = faiss.IndexFlatIP(dimensions)
        flat.codes.resize(4 * dimensions * rows)
        flat.ntotal = rows
        index.storage, index.own_fields = flat, True
        flat.this.disown()
        return cls(dimensions, index)


def _directions(vectors: np.ndarray) -> np.ndarray:
    import numpy as np

    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
