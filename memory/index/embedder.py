"""Text to vectors. Every vector has length 1, so that the inner product of two is their cosine."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from memory import errors
from memory.text.jsonlines import loaded

if TYPE_CHECKING:
    import numpy as np

    from memory.store.database import Database

BATCH = 256
"""How many texts are embedded between two savings; what a kill can cost of a long rebuild."""


class Embedder(Protocol):
    """What turns texts into vectors. `model_id` changes whenever the vectors would."""

    @property
    def model_id(self) -> str:
        """The name under which vectors are cached; it says which model, and which weights of it."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One row of length 1 for each text: float32, (len(texts), dimensions)."""
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model from a local folder (Reimers and Gurevych 2019, Sentence-BERT).

    The model is loaded at the first `embed`, which takes seconds and is told to `say`; `dimensions` is read from its
    configuration. Text beyond the model's window (256 tokens for all-MiniLM-L6-v2) does not count.

    Raises:
        EmbedderUnavailable: when the folder is not one of such a model.
        MissingDependency: when sentence-transformers is not installed.
    """

    def __init__(
        self,
        folder: Path | str,
        model_id: str | None = None,
        *,
        device: str = "cpu",
        batch_size: int = 32,
        say: Callable[[str], None] = lambda message: None,
    ):
        self.folder = Path(folder)
        self.say = say
        self.model_id = model_id or self.folder.name
        self.device = device
        self.batch_size = batch_size
        if not (self.folder / "modules.json").is_file():
            raise errors.EmbedderUnavailable(
                f"{self.folder} holds no sentence-transformers model (modules.json is not there); "
                "give the folder of one, such as all-MiniLM-L6-v2."
            )

    @cached_property
    def dimensions(self) -> int:
        for name, key in (("1_Pooling/config.json", "word_embedding_dimension"), ("config.json", "hidden_size")):
            try:
                return int(loaded((self.folder / name).read_text(encoding="utf-8"))[key])
            except (LookupError, OSError, OverflowError, TypeError, ValueError):
                continue
        return int(self._model.encode(["a"]).shape[1])

    @cached_property
    def _model(self) -> Any:
        self.say(f"Loading the embedder {self.model_id}.")
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ImportError as error:
            raise errors.MissingDependency(
                f"sentence-transformers cannot be imported ({error}); run `pip install sentence-transformers`."
            ) from error
        # Loading takes a moment; a bar for it would tear the progress display of whoever is working.
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return SentenceTransformer(str(self.folder), device=self.device, local_files_only=True)
        except Exception as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise errors.EmbedderUnavailable(
                f"The embedding model in {self.folder} cannot be loaded ({cause}); put its files there again."
            ) from error
        finally:
            if shown:
                logging.enable_progress_bar()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One row of length 1 for each text."""
        if not texts:
            return _empty(self.dimensions)
        return _float32(
            self._model.encode(
                list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
            )
        )


class HashingEmbedder:
    """Bags of words and word pairs, hashed into `dimensions` signed buckets (Weinberger et al. 2009).

    It needs no model and no time, is the same everywhere, and knows nothing of meaning: for tests, and for machines
    where no model is at hand.
    """

    def __init__(self, dimensions: int = 256):
        self.dimensions = dimensions
        self.model_id = f"hashing-{dimensions}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One row of length 1 for each text."""
        vectors = _empty(self.dimensions, len(texts))
        for row, text in zip(vectors, texts, strict=True):
            words = re.findall(r"\w+", text.lower())
            for feature in [*words, *map(" ".join, pairwise(words))]:
                code = crc32(feature.encode())
                row[code % self.dimensions] += 1.0 if code & 0x80000000 else -1.0
            length = float((row @ row) ** 0.5)
            if length:
                row /= length
            else:  # No words, or words that cancel out: some direction, since every vector has length 1.
                row[0] = 1.0
        return vectors


class CachedEmbedder:
    """An embedder that computes each text once: vectors are kept in the database by model and content.

    What was embedded is saved every `BATCH` texts, so that a killed rebuild goes on where it was. On a database that
    is open for reading only, vectors are looked up but not kept.
    """

    def __init__(self, inner: Embedder, database: Database, *, queries: int = 1024):
        self.inner = inner
        self.database = database
        self._queries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._queries_kept = queries

    @property
    def model_id(self) -> str:
        return self.inner.model_id

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    def embed(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """One row of length 1 for each text. `progress` is called with (done, total) of the texts to compute."""
        names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        vectors = _empty(self.dimensions, len(texts))
        known = self.database.vectors.get(self.model_id, list(dict.fromkeys(names)))
        missing = list({name: text for name, text in zip(names, texts, strict=True) if name not in known}.items())
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            made = dict(zip([name for name, _ in part], self._checked([text for _, text in part]), strict=True))
            if not self.database.connection.readonly:
                self.database.vectors.put(self.model_id, made)
            known.update(made)
            if progress:
                progress(start + len(part), len(missing))
        for place, name in enumerate(names):
            vectors[place] = known[name]
        return vectors

    def embed_query(self, text: str) -> np.ndarray:
        """The vector (dimensions,) of a passing text, which is remembered for a while but not kept."""
        vector = self._queries.pop(text, None)
        if vector is None:
            name = hashlib.sha256(text.encode()).hexdigest()
            vector = self.database.vectors.get(self.model_id, [name]).get(name)
        if vector is None:
            vector = self._checked([text])[0]
        self._queries[text] = vector
        if len(self._queries) > self._queries_kept:
            self._queries.popitem(last=False)
        return vector

    def _checked(self, texts: list[str]) -> np.ndarray:
        vectors = _float32(self.inner.embed(texts))
        if vectors.shape != (len(texts), self.dimensions):
            raise errors.WrongVectors(
                f"The embedder '{self.model_id}' gave vectors of shape {vectors.shape} for {len(texts)} texts; "
                f"it must give ({len(texts)}, {self.dimensions})."
            )
        return vectors


def _empty(dimensions: int, rows: int = 0) -> np.ndarray:
    import numpy as np

    return np.zeros((rows, dimensions), dtype=np.float32)


def _float32(vectors: Any) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(vectors, dtype=np.float32)
