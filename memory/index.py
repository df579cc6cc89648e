"""FAISS, as a cache of the database: it may be deleted, cut short or out of date at any time, and is made again."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import errors
from memory.sources import Entry, Source

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"AgentLab vectors 1\n"
SAVE_EVERY = 256
"""Changes after which the file is written again, or a tenth of the items if that is more."""

Embed = Callable[[Sequence[str]], "np.ndarray"]
Notify = Callable[[str], None]


class VectorIndex:
    """Exact search by inner product over numbered vectors, kept in one file.

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
    ):
        self.path = Path(path)
        self.model_id = model_id
        self.dimensions = dimensions
        self.readonly = readonly
        self.expected = expected
        self._notify = notify or (lambda message: None)
        self._lock = threading.RLock()
        self._faiss: Any = None
        self._stamps: dict[int, int] = {}
        self._mark = -1
        self._unsaved = 0

    def __len__(self) -> int:
        return len(self._stamps)

    # Following the database

    def follow(self, source: Source, embed: Embed) -> None:
        """Agree with `source`: read the file if that was not done yet, then take over what is new or changed.

        `embed` makes vectors (n, dimensions) for n texts.
        """
        with self._lock:
            if self._faiss is None:
                self._open(source, embed)
            else:
                self._take(source.entries(self._mark), source, embed)
                if self._unsaved >= max(SAVE_EVERY, len(self) // 10):
                    self.save()

    def _open(self, source: Source, embed: Embed) -> None:
        fault = self._load()
        entries = source.entries()
        held = {entry.number: entry.stamp for entry in entries}
        wrong = [number for number, stamp in self._stamps.items() if held.get(number) != stamp]
        if not fault and wrong:
            fault = f"does not agree with the database on {len(wrong)} of {len(self)} items"
        if fault and not self.expected and not self.path.exists():
            fault = ""
        if fault and entries:
            new = len(held.keys() - self._stamps.keys()) + sum(number in held for number in wrong)
            self._notify(f"The index {self.path.name} {fault}; making it again from the database ({new} items).")
        self._remove([number for number in wrong if number not in held])
        self._take(entries, source, embed)
        self.expected = True
        # Also after a quiet catching-up of more than a few items, so that the next start has not to repeat it.
        if self._unsaved and (fault or self._unsaved >= SAVE_EVERY):
            self.save()

    def _take(self, entries: list[Entry], source: Source, embed: Embed) -> None:
        if not entries:
            return
        fresh = [entry for entry in entries if self._stamps.get(entry.number) != entry.stamp]
        if fresh:
            vectors = embed(source.texts([entry.number for entry in fresh]))
            self._put([entry.number for entry in fresh], [entry.stamp for entry in fresh], vectors)
        self._mark = max(self._mark, entries[-1].mark)

    # Vectors

    def _put(self, numbers: list[int], stamps: list[int], vectors: np.ndarray) -> None:
        import numpy as np

        if vectors.shape != (len(numbers), self.dimensions):
            raise errors.WrongVectors(
                f"The index {self.path.name} was given vectors of shape {vectors.shape}, it holds "
                f"{self.dimensions} dimensions; use the embedder that it was made with, or delete the file."
            )
        self._remove([number for number in numbers if number in self._stamps])
        self._faiss.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(numbers, np.int64))
        self._stamps.update(zip(numbers, stamps, strict=True))
        self._unsaved += len(numbers)

    def _remove(self, numbers: list[int]) -> None:
        import numpy as np

        if numbers:
            self._faiss.remove_ids(np.asarray(numbers, np.int64))
            for number in numbers:
                del self._stamps[number]
            self._unsaved += len(numbers)

    def search(self, vector: np.ndarray, count: int, *, only: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """The `count` nearest numbers with their cosine, the nearest first; `only` among these numbers if given."""
        import faiss
        import numpy as np

        with self._lock:
            count = min(count, len(self) if only is None else len(only))
            if count < 1 or self._faiss is None:
                return []
            parameters: Any = None
            if only is not None:
                parameters, selector = faiss.SearchParameters(), faiss.IDSelectorBatch(np.asarray(only, np.int64))
                parameters.sel = selector
            cosines, numbers = self._faiss.search(np.asarray(vector, np.float32)[None, :], count, params=parameters)
        return [(int(n), float(c)) for n, c in zip(numbers[0], cosines[0], strict=True) if n >= 0]

    def vectors(self, numbers: Sequence[int]) -> np.ndarray:
        """The vectors of these numbers, which must be in the index: (len(numbers), dimensions)."""
        import numpy as np

        with self._lock:
            return self._faiss.reconstruct_batch(np.asarray(numbers, np.int64))

    # The file

    def _load(self) -> str:
        """Read the file; what is wrong with it, or an empty text."""
        import faiss
        import numpy as np

        self._faiss = faiss.IndexIDMap2(faiss.IndexFlatIP(self.dimensions))
        self._stamps, self._mark, self._unsaved = {}, -1, 0
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return "was missing"
        except OSError as error:
            return f"could not be read ({error.strerror})"
        try:
            start = content.index(b"\n", len(MAGIC)) + 1
            head = json.loads(content[len(MAGIC) : start])
            body = memoryview(content)[start:]
            # The checksum comes before FAISS: its reader trusts what it is given.
            if not content.startswith(MAGIC) or head["bytes"] != len(body) or head["crc"] != zlib.crc32(body):
                raise ValueError
            if (head["model"], head["dimensions"]) != (self.model_id, self.dimensions):
                return f"was made by the embedder '{head['model']}', and this lab uses '{self.model_id}'"
            stamps = np.frombuffer(body, np.int64, head["count"])
            loaded: Any = faiss.deserialize_index(np.frombuffer(body, np.uint8, offset=stamps.nbytes))
            numbers = faiss.vector_to_array(loaded.id_map)
            if len(numbers) != len(stamps) or loaded.d != self.dimensions:
                raise ValueError
        except (ValueError, KeyError, TypeError, RuntimeError):
            return "was cut short or damaged"
        self._faiss = loaded
        self._stamps = dict(zip(numbers.tolist(), stamps.tolist(), strict=True))
        return ""

    def save(self) -> None:
        """Write the file beside itself and rename it. That this fails costs time at the next start, nothing else."""
        import faiss
        import numpy as np

        with self._lock:
            if self.readonly or self._faiss is None or not self._unsaved:
                return
            order = faiss.vector_to_array(self._faiss.id_map).tolist()
            stamps = np.asarray([self._stamps[number] for number in order], np.int64)
            body = stamps.tobytes() + faiss.serialize_index(self._faiss).tobytes()
            head = {
                "model": self.model_id, "dimensions": self.dimensions, "count": len(order), "bytes": len(body),
                "crc": zlib.crc32(body),
            }  # fmt: skip
            beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            try:
                self._sweep()
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with beside.open("wb") as file:
                    file.write(MAGIC + json.dumps(head).encode() + b"\n")
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(self.path)
                self._unsaved = 0
            except OSError as error:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)
                # Not again at the very next change, which would fail the same way.
                self._unsaved = 1
                self._notify(
                    f"The index {self.path.name} could not be saved ({error.strerror}); nothing is lost, "
                    "but the next start takes longer: make room or check the folder's permissions."
                )

    def _sweep(self) -> None:
        """Remove what processes that were killed while writing have left."""
        for left in self.path.parent.glob(f"{self.path.name}.*.new"):
            with contextlib.suppress(ValueError, OSError):
                if not _alive(int(left.name.split(".")[-2])):
                    left.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
