"""Search by meaning in a LangGraph store: texts of items to vectors, and the FAISS file that follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings, get_text_at_path

from memory import errors
from memory.index.embedder import CachedEmbedder, Embedder
from memory.index.vector_index import VectorIndex
from memory.langgraph_store.items import FREE, ItemTexts, text_name
from memory.store.database import Database

if TYPE_CHECKING:
    import numpy as np

FIRST = 64
"""How many neighbours are asked for at first; four times as many each time that too few of them fit."""


class ItemIndex:
    """The searched texts of a store's items as vectors, kept in one FAISS file that can be made again.

    Args:
        config: LangGraph's `IndexConfig`. `embed` may also be an embedder of this package, which knows its `dims`.
            `fields` says which parts of a value are searched, by default `["$"]`, the whole of it.
        model_id: the name under which vectors are kept. It must change whenever the vectors would; by default it is
            made from the embedder's class or function, its model, and `dims`.

    Raises:
        ValueError: if `config` lacks `dims`, or an `embed` that can be used.
    """

    def __init__(
        self,
        database: Database,
        path: Path,
        config: Mapping[str, Any],
        *,
        model_id: str | None = None,
        notify: Callable[[str], None] | None = None,
    ):
        embed = config.get("embed")
        own = embed if not isinstance(embed, Embeddings) and hasattr(embed, "model_id") else None
        if isinstance(own, CachedEmbedder):
            own = own.inner
        self.database = database
        self.embeddings = ensure_embeddings(embed) if own is None else EmbedderEmbeddings(own)
        self.dimensions = int(config.get("dims") or (0 if own is None else own.dimensions))
        if not self.dimensions:
            raise ValueError("The index of a store needs to know its vectors' length; give index={'dims': …, …}.")
        self.model_id = model_id or (_model_id(embed, self.dimensions) if own is None else own.model_id)
        self.fields: list[str] = config.get("fields") or ["$"]
        self._texts = ItemTexts(database)
        self._mark = 0
        self._cached = CachedEmbedder(_Documents(self), database)
        self._setting = f"index made: {path.name}"
        self._made = bool(database.settings.get(self._setting, False))
        self._index = VectorIndex(
            path,
            self.model_id,
            self.dimensions,
            notify=notify,
            readonly=database.connection.readonly or str(database.connection.path) == ":memory:",
            expected=self._made,
        )

    def texts(self, value: dict[str, Any], fields: Literal[False] | Sequence[str] | None = None) -> list[str]:
        """The texts by which `value` is found: in the index's fields, or in these; none if `fields` is False."""
        paths = [] if fields is False else self.fields if fields is None else fields
        return list(dict.fromkeys(text for path in paths for text in get_text_at_path(value, path)))

    # Vectors: float32, (dimensions,), of length 1, or nought where the embedder says so

    def documents(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of `texts` by the SHA-256 of each; what is known is not computed again."""
        known, missing = self._known(texts)
        return known | self._named(missing, self.embeddings.embed_documents(missing) if missing else [])

    async def adocuments(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """See `documents`."""
        known, missing = await asyncio.to_thread(self._known, texts)
        return known | self._named(missing, await self.embeddings.aembed_documents(missing) if missing else [])

    def queries(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of questions by their text."""
        return {text: self.normal([self.embeddings.embed_query(text)], 1)[0] for text in texts}

    async def aqueries(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """See `queries`."""
        vectors = await asyncio.gather(*map(self.embeddings.aembed_query, texts))
        return {text: self.normal([vector], 1)[0] for text, vector in zip(texts, vectors, strict=True)}

    def normal(self, vectors: Any, count: int) -> np.ndarray:
        """`vectors` scaled to length 1: float32, (count, dimensions). Raises `WrongVectors` if they are not so many."""
        import numpy as np

        rows = np.asarray(vectors, np.float32).reshape(len(vectors), -1)
        if rows.shape != (count, self.dimensions):
            raise errors.WrongVectors(
                f"The embedder '{self.model_id}' gave vectors of shape {rows.shape} for {count} texts; it must give "
                f"({count}, {self.dimensions}): set 'dims' of the store's index to what the model has."
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

    def _known(self, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
        named = {text_name(text): text for text in texts}
        known = self.database.vectors.get(self.model_id, list(named))
        return known, [text for name, text in named.items() if name not in known]

    def _named(self, texts: list[str], vectors: Any) -> dict[str, np.ndarray]:
        return dict(zip(map(text_name, texts), self.normal(vectors, len(texts)), strict=True)) if texts else {}

    # The nearest

    def follow(self) -> int:
        """Take over what is new in the database; return the mark up to which the texts are those of the database.

        Nothing is taken over within a transaction: what is not committed may be undone.
        """
        if not self.database.connection.in_transaction:
            with self.database.connection.held():
                mark = self._texts.mark()
                self._index.follow(self._texts, self._embed)
            self._mark = max(self._mark, mark)
            # Not at the first look: that may have been into an empty database.
            if len(self._index) and not self._made and not self._index.readonly:
                self.database.settings.put(self._setting, True)
                self._made = True
        return self._mark

    def nearest(self, vector: np.ndarray, wanted: int, only: list[int] | None) -> Iterator[list[tuple[int, float]]]:
        """Texts by number with their cosine, the nearest first, in ever longer portions while more are asked for.

        `only` these, or all; `wanted` is how many are probably needed.
        """
        count = len(only) if only is not None else max(FIRST, 4 * wanted)
        yielded: set[int] = set()
        while True:
            hits = self._index.search(vector, count, only=only)
            yield [hit for hit in hits if hit[0] not in yielded]
            if only is not None or len(hits) < count:
                return
            yielded.update(number for number, _ in hits)
            count *= 4

    def save(self) -> None:
        """Write the file, if it is not up to date."""
        self._index.save()

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        used = [place for place, text in enumerate(texts) if text != FREE]
        if used:
            vectors[used] = self._cached.embed([texts[place] for place in used])
        return vectors


class EmbedderEmbeddings(Embeddings):
    """An embedder of this package in the form that LangChain knows."""

    def __init__(self, embedder: Embedder):
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        vectors: list[list[float]] = self.embedder.embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, which is the same as that of a document."""
        return self.embed_documents([text])[0]


class _Documents:
    """Embeddings of LangChain in the form that this package knows."""

    def __init__(self, index: ItemIndex):
        self.model_id = index.model_id
        self.dimensions = index.dimensions
        self._index = index

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self._index.normal(self._index.embeddings.embed_documents(list(texts)), len(texts))


def _model_id(embed: Any, dimensions: int) -> str:
    if isinstance(embed, str):
        return f"{embed}:{dimensions}"
    kind = embed if hasattr(embed, "__qualname__") else type(embed)
    names = [getattr(embed, name, None) for name in ("model", "model_name")]
    models = [name for name in names if isinstance(name, str)]
    return ":".join([f"{kind.__module__}.{kind.__qualname__}", *models[:1], str(dimensions)])
