"""FAISS, as a cache of the database: it may be deleted, cut short or out of date at any time, and is made again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memory import errors
from memory.index.file import Fault, IndexFile, write
from memory.index.graph import AWAY, Graph
from memory.index.items import Items
from memory.index.sources import Source, Summed, summary
from memory.index.stats import IndexStats
from memory.index.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np

SAVE_EVERY = 256
"""Changes after which the file is written again, or a tenth of the items if that is more."""
FEW = 0.005
"""Share of the items whose change is not worth writing a large file: the next start catches up in less time."""
FLAT_BYTES = 128 << 20
"""How many bytes of vectors are searched exactly, 87,381 rows of 384 dimensions: 5 to 8 ms on one thread of the machine
of `benchmarks/index.py`. A graph takes 1 ms there, but is not exact and costs 1 ms for every row that is put in.
"""
BATCH = 32768
"""How many texts are embedded at once."""
STEP = 128
"""How many rows the graph grows by at each look at the database: a tenth of a second, so that nobody waits for it."""
REMEASURE = 1.5
"""Growth of the graph after which its recall is measured again."""

Embed = Callable[[Sequence[str]], "np.ndarray"]
Notify = Callable[[str], None]
Progress = Callable[[int, int], None]


class VectorIndex:
    """Search by inner product over numbered vectors of length 1, kept in one file.

    Up to `threshold` vectors it is exact. Above that a graph grows over them, a few rows with each `follow`, or all of
    them with `build`. Search stays exact until the graph has reached all vectors and was found, by measurement, to find
    at least 0.98 of the ten nearest. What came later than the graph is searched exactly beside it. When the vectors
    become fewer than half the threshold the graph is given up again.

    The file says by which embedder its vectors were made, how many there are, and, for each, the stamp of its text.
    So whatever is wrong with it – missing, cut short, of another embedder, older or newer than the database – is seen
    when it is read: what does not agree with the database is made again, and `notify` is told why. It is written
    beside itself and renamed. Threads may share one object; processes follow the database, each for itself.

    With `readonly` the file is used but never written. `expected` is false for an index that was never made before,
    so that its absence is no news.
    """

    def __init__(
        self,
        path: Path | str,
        model_id: str,
        dimensions: int,
        *,
        notify: Notify | None = None,
        readonly: bool = False,
        expected: bool = True,
        threshold: int | None = None,
    ):
        self.path = Path(path)
        self.model_id = model_id
        self.dimensions = dimensions
        self.readonly = readonly
        self.expected = expected
        self.threshold = threshold or max(1, FLAT_BYTES // (4 * dimensions))
        self._notify = notify or (lambda message: None)
        self._lock = threading.RLock()
        self._opened, self._unsaved = False, 0
        self._clear()

    def _clear(self) -> None:
        self._items = Items()
        self._vectors = Vectors(self.dimensions)
        self._mark = -1
        # A graph that was found wanting is tried again when there are more vectors than this.
        self._wanting = 0

    def __len__(self) -> int:
        return len(self._items)

    def stats(self) -> IndexStats:
        """How many items there are, how they are searched, and what that takes."""
        with self._lock:
            vectors, graph = self._vectors, self._vectors.graph
            return IndexStats(
                kind="hnsw" if graph and graph.trusted else "flat",
                items=len(self),
                vectors=self._items.living,
                dead=self._dead,
                graphed=vectors.graphed,
                threshold=self.threshold,
                recall=graph.recall if graph and graph.measured else None,
                list_length=graph.list_length if graph else 0,
                bytes=vectors.nbytes + self._items.nbytes,
                dimensions=self.dimensions,
                model=self.model_id,
            )

    @property
    def _dead(self) -> int:
        return len(self._vectors) - self._items.living

    # Following the database

    def follow(self, source: Source, embed: Embed) -> None:
        """Agree with `source`: read the file if that was not done yet, then take over what is new or changed.

        `embed` makes vectors (n, dimensions) for n texts.
        """
        with self._lock:
            if not self._opened:
                self._open(source, embed)
            else:
                self._take(_array(source.entries(self._mark)), source, embed)
            self._tend(STEP)
            if self._unsaved >= max(SAVE_EVERY, len(self) // 10):
                self.save()

    def _open(self, source: Source, embed: Embed) -> None:
        fault, numbers = self._load(), self._items.numbers
        said = summary(self._mark, numbers, self._items.stamps_of(numbers))
        if len(self) and isinstance(source, Summed) and source.summary(self._mark) == said:
            self._take(_array(source.entries(self._mark)), source, embed)
            self._opened = True
            return
        entries = _array(source.entries())
        gone, other = self._items.disagreement(entries, self._mark)
        if not fault and (gone or other):
            fault = f"does not agree with the database on {len(gone) + len(other)} of {len(self)} items"
        if fault and not self.expected and not self.path.exists():
            fault = ""
        if fault and len(entries):
            new = int((self._items.rows_of(entries[:, 1]) < 0).sum()) + len(other)
            self._notify(f"The index {self.path.name} {fault}; making it again from the database ({new} items).")
        for number in gone:
            self._items.remove(number)
        # The marks of another past mean nothing here.
        self._unsaved, self._mark = self._unsaved + len(gone), -1
        self._take(entries, source, embed)
        self._opened = self.expected = True
        # Also after catching up quietly on more than a few items, so that the next start has not to do it again.
        if self._unsaved and (fault or self._unsaved >= SAVE_EVERY):
            self._write()

    def _take(self, entries: np.ndarray, source: Source, embed: Embed) -> None:
        import numpy as np

        if not len(entries):
            return
        # Of a text that is there twice the later entry counts.
        _, last = np.unique(entries[::-1, 1], return_index=True)
        latest = entries[len(entries) - 1 - np.sort(last)[::-1]]
        numbers, stamps = latest[:, 1], latest[:, 2]
        fresh = (self._items.rows_of(numbers) < 0) | (self._items.stamps_of(numbers) != stamps)
        numbers, stamps = numbers[fresh], stamps[fresh]
        for start in range(0, len(numbers), BATCH):
            part = numbers[start : start + BATCH].tolist()
            self._put(part, stamps[start : start + BATCH].tolist(), embed(source.texts(part)))
        self._mark = max(self._mark, int(entries[-1, 0]))

    def _put(self, numbers: list[int], stamps: list[int], vectors: np.ndarray) -> None:
        if vectors.shape != (len(numbers), self.dimensions):
            raise errors.WrongVectors(
                f"The index {self.path.name} was given vectors of shape {vectors.shape}, it holds "
                f"{self.dimensions} dimensions; use the embedder that it was made with, or delete the file."
            )
        rows = self._vectors.add(vectors)
        for number, stamp, row in zip(numbers, stamps, rows, strict=True):
            self._items.put(number, stamp, row)
        self._unsaved += len(numbers)

    # Flat or graph

    def build(self, progress: Progress | None = None) -> None:
        """Let the graph reach all vectors now, if there are so many that one is wanted, and write the file.

        Half a minute for a hundred thousand, half an hour for a million. `progress` is called with (done, total).
        Searches in other threads go on meanwhile.
        """
        while True:
            with self._lock:
                more = self._tend(8 * STEP)
                done, total = self._vectors.graphed, len(self._vectors)
            if progress and self._vectors.graph:
                progress(done, total)
            if not more:
                break
        self.save()

    def _tend(self, step: int) -> bool:
        """Let the graph grow by up to `step` rows, or throw out what is dead; True if there is more to do."""
        vectors, graph = self._vectors, self._vectors.graph
        if self._dead > max(STEP, len(vectors) // 3) or (graph and self._items.living < self.threshold // 2):
            self._compact()
            return True
        if not graph and (self._items.living < self.threshold or len(vectors) <= self._wanting):
            return False
        rest = len(vectors) - vectors.graphed
        if not graph and rest > 100 * STEP:
            self._notify(
                f"The index {self.path.name} has {len(vectors)} vectors; a graph for faster search grows while it is "
                "used, and until it is complete every search is exact."
            )
        # A few rows beside a complete graph cost nothing, and putting in one at a time does.
        if rest > (0 if step > STEP or not (graph and graph.trusted) else STEP // 2):
            self._unsaved += vectors.grow(step)
            graph, rest = vectors.graph, len(vectors) - vectors.graphed
        if graph and (graph.trusted or not rest) and len(graph) >= REMEASURE * graph.measured:
            graph.measure()
            self._unsaved += len(self)  # worth writing: the next start need not measure
            if not graph.trusted:
                self._notify(
                    f"A graph over the {len(graph)} vectors of the index {self.path.name} finds only "
                    f"{100 * graph.recall:.0f} % of the nearest in less time than exact search takes; "
                    "search stays exact."
                )
                self._wanting = 2 * len(vectors)
                self._compact()
        return rest > 0

    def _compact(self) -> None:
        """Keep the living rows only. The graph cannot lose rows, so it is given up and grows anew."""
        import numpy as np

        kept = np.flatnonzero(self._items.alive(len(self._vectors)))
        self._vectors.keep(kept)
        numbers = self._items.numbers
        rows = np.searchsorted(kept, self._items.rows_of(numbers)).astype(np.int32)
        self._items = Items.of(numbers, self._items.stamps_of(numbers), rows)
        self._unsaved += 1

    # Searching

    def search(
        self, vector: np.ndarray, count: int, *, only: Sequence[int] | np.ndarray | None = None
    ) -> list[tuple[int, float]]:
        """The `count` nearest numbers with their cosine, the nearest first; `only` among these numbers if given.

        Of equally near ones with the same vector the lesser number comes first.
        """
        import numpy as np

        query = np.ascontiguousarray(vector, np.float32)
        if query.shape != (self.dimensions,):
            raise errors.WrongVectors(
                f"The index {self.path.name} was asked for a vector of shape {query.shape}, it holds "
                f"{self.dimensions} dimensions; use the embedder that it was made with."
            )
        with self._lock:
            rows = len(self._vectors)
            if count < 1 or not rows:
                return []
            wanted = self._items.alive(rows)
            numbers = None if only is None else np.asarray(only, np.int64)
            if numbers is not None:
                meant = self._items.rows_of(numbers)
                wanted = np.zeros(rows, bool)
                wanted[meant[meant >= 0]] = True
            near, cosines = self._vectors.nearest(query, count, wanted)
            if not self._items.shared:
                return list(zip(self._items.first_at(near).tolist(), cosines.tolist(), strict=True))
            groups = self._items.numbers_at(near)
        found: list[tuple[int, float]] = []
        allowed: set[int] | None = None
        for group, cosine in zip(groups, cosines.tolist(), strict=True):
            if numbers is not None and len(group) > 1:
                allowed = allowed or set(numbers.tolist())
                group = [number for number in group if number in allowed]
            found.extend([(number, cosine) for number in group[: count - len(found)]])
            if len(found) == count:
                break
        return found

    def vectors(self, numbers: Sequence[int]) -> np.ndarray:
        """The vectors of these numbers: (len(numbers), dimensions). Raises KeyError if one is not in the index."""
        import numpy as np

        with self._lock:
            rows = self._items.rows_of(np.asarray(numbers, np.int64))
            if len(rows) and rows.min() < 0:
                raise KeyError(int(np.asarray(numbers)[rows < 0][0]))
            return self._vectors.take(rows)

    # The file

    def _load(self) -> str:
        """Read the file; what is wrong with it, or an empty text."""
        self._clear()
        try:
            with IndexFile(self.path) as file:
                self._read(file)
        except (Fault, KeyError, ValueError) as fault:
            self._clear()
            return str(fault) if isinstance(fault, Fault) else "was cut short or damaged"
        return ""

    def _read(self, file: IndexFile) -> None:
        import numpy as np

        head = file.head
        if (head["model"], head["dimensions"]) != (self.model_id, self.dimensions):
            raise Fault(f"was made by the embedder '{head['model']}', and this lab uses '{self.model_id}'")
        numbers, stamps = file.array("numbers", np.int64), file.array("stamps", np.int64)
        self._items = Items.of(numbers, stamps, file.array("rows", np.int32))
        names = file.array("names", np.uint8)
        if head["graphed"]:
            # Only what was checked is given to FAISS's reader, which trusts it.
            links = file.array("links", np.uint8)
            graph = self._vectors.graph = Graph.from_bytes(links, self.dimensions, head["graphed"])
            graph.list_length, graph.recall = head["list"], head["recall"]
            # What was found with other questions is found anew.
            graph.measured = head["measured"] if head.get("away") == AWAY else 0
            file.into("graphed", graph.vectors)
        file.into("rest", self._vectors.restore(names))
        self._mark, self._wanting = head["mark"], head["wanting"]

    def save(self) -> None:
        """Write the file, unless what has changed is so little that the next start takes it from the database as fast.

        The file is written beside itself and renamed. That this fails costs time at the next start, nothing else.
        """
        with self._lock:
            if self._unsaved > FEW * len(self) or (self._unsaved and not self.path.exists()):
                self._write()

    def _write(self) -> None:

        if self.readonly:
            return
        vectors, numbers = self._vectors, self._items.numbers
        graph = vectors.graph
        *graphed, rest = vectors.parts()
        head = {
            "model": self.model_id, "dimensions": self.dimensions, "mark": self._mark, "wanting": self._wanting,
            "graphed": vectors.graphed,
        }  # fmt: skip
        if graph:
            head |= {"list": graph.list_length, "recall": graph.recall, "measured": graph.measured, "away": AWAY}
        arrays = {
            "numbers": [numbers],
            "stamps": [self._items.stamps_of(numbers)],
            "rows": [self._items.rows_of(numbers)],
            "names": [vectors.names],
            "links": [graph.to_bytes()] if graph else [],
            "graphed": graphed,
            "rest": [rest],
        }
        try:
            write(self.path, head, arrays)
            self._unsaved = 0
        except OSError as error:
            # Not again at the very next change, which would fail the same way.
            self._unsaved = 1
            self._notify(
                f"The index {self.path.name} could not be saved ({error.strerror}); nothing is lost, "
                "but the next start takes longer: make room or check the folder's permissions."
            )


def _array(entries: object) -> np.ndarray:
    import numpy as np

    return np.asarray(entries, np.int64).reshape(-1, 3)
