"""The memory systems that are measured, ours and others, each filled and asked in the same way.

Nothing is imported before it is needed, so that memory and start-up are those of the system alone.
`memory_process.py` runs one of them.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import texts
from texts import number_of

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
NEAREST = 32
"""How many answers are asked for."""
PLAYED = 50
"""Recalls that were recorded before."""
VOCABULARY, SIZE = "games", 0


def text(number: int) -> str:
    """The text of an item."""
    return str(texts.text(VOCABULARY, number))


def question(number: int) -> str:
    """A question for one of the items."""
    return str(texts.question(VOCABULARY, number, SIZE))


class Vectors:
    """The vectors of items and queries, by the numbers in their texts."""

    def __init__(self, folder: Path):
        import numpy as np

        self.items = np.load(folder / "vectors.npy", mmap_mode="r")
        self.queries = np.load(folder / "queries.npy")
        self.dimensions = int(self.queries.shape[1])
        self.model_id = "given"

    def embed(self, texts: Sequence[str]) -> Any:
        """One row for each text."""
        import numpy as np

        return np.stack([self.one(said) for said in texts]) if texts else np.empty((0, self.dimensions), np.float32)

    def one(self, said: str) -> Any:
        """The vector of one text."""
        return (self.queries if "? " in said else self.items)[number_of(said)]


class System(Protocol):
    """What is measured. `kept` is false where it has to be filled anew in every process, since it keeps nothing."""

    kept: bool

    def put(self, numbers: range) -> None: ...

    def finish(self) -> dict[str, Any]: ...

    def ask(self, said: str) -> list[int]: ...


class Ours:
    """`ReflectionMemory`: words, meaning, and all parts of the score."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        from memory import Database, ReflectionMemory
        from memory.credit import Credit
        from memory.records import now

        self.vectors = vectors
        folder.mkdir(exist_ok=True)
        self.memory = ReflectionMemory(Database(folder / "lab.db"), vectors, folder / "memory.faiss")
        # As a run has it: what was measured before it began is a part of the score.
        self.credit = Credit(self.memory.database, before=now())

    def put(self, numbers: range) -> None:
        from memory import Evidence, Reflection

        self.memory.remember(
            [
                Reflection(
                    id=f"rf-{number}",
                    kind="grounded",
                    env=f"twx/{number % 8}",
                    task=f"twx/{number % 8}:train:{number}",
                    text=text(number),
                    evidence=[Evidence(episode=f"ep-{number}", steps=[1])],
                )
                for number in numbers
            ]
        )

    def finish(self) -> dict[str, Any]:
        clock = CLOCKS[sys.argv[-1]]
        began = clock()
        self.memory.save()
        saved = clock()
        self.memory.index.build()
        built = clock()
        half = len(self.vectors.queries) // 2
        for number in range(PLAYED):  # some that were recalled, and what became of it
            said = question(half + number % half)
            self.memory.recall(said, episode=f"played-{number}", k=5, credit=self.credit)
            self.memory.outcome(f"played-{number}", won=number % 3 == 0)
        self.memory.close()
        stats = self.memory.index.stats()
        return {"saved": saved - began, "build": built - saved, "kind": stats.kind, "list": stats.list_length}

    def ask(self, said: str) -> list[int]:
        hits = self.memory.recall(said, episode="asked", k=NEAREST, record=False, credit=self.credit, lots=False)
        return [number_of(hit.reflection.text) for hit in hits]


class OurSearch(Ours):
    """Of the same memory what a person searches with, where relevance counts most."""

    def put(self, numbers: range) -> None:
        raise AssertionError("filled by Ours")

    def ask(self, said: str) -> list[int]:
        return [number_of(hit.reflection.text) for hit in self.memory.search(said, k=NEAREST)]


class OurIndex(Ours):
    """Of the same memory the index alone, whose answers are those of meaning alone."""

    def put(self, numbers: range) -> None:
        raise AssertionError("filled by Ours")

    def ask(self, said: str) -> list[int]:
        if not len(self.memory.index):
            self.memory.search(said, k=1)
        found = self.memory.index.search(self.vectors.one(said), NEAREST)
        return [row - 1 for row, _ in found]


class Flat:
    """Raw FAISS: exhaustive search, and nothing else."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        import faiss

        self.vectors, self.path, self.faiss = vectors, folder / "flat.faiss", faiss
        folder.mkdir(exist_ok=True)
        self.index = faiss.read_index(str(self.path)) if self.path.exists() else faiss.IndexFlatIP(vectors.dimensions)

    def put(self, numbers: range) -> None:
        self.index.add(self.vectors.items[numbers.start : numbers.stop])

    def finish(self) -> dict[str, Any]:
        self.faiss.write_index(self.index, str(self.path))
        return {}

    def ask(self, said: str) -> list[int]:
        return self.index.search(self.vectors.one(said)[None], NEAREST)[1][0].tolist()


class FTS5:
    """SQLite's FTS5 and its `bm25()`, and nothing else: the words of the question, or-ed."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        folder.mkdir(exist_ok=True)
        self.connection = sqlite3.connect(folder / "words.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("PRAGMA mmap_size = 1073741824")
        self.connection.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize='porter unicode61')"
        )

    def put(self, numbers: range) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany(
            "INSERT INTO words (rowid, text) VALUES (?, ?)", [(number + 1, text(number)) for number in numbers]
        )
        self.connection.execute("COMMIT")

    def finish(self) -> dict[str, Any]:
        return {"version": sqlite3.sqlite_version}

    def ask(self, said: str) -> list[int]:
        asked = " OR ".join(f'"{word}"' for word in said[:-3].replace("?", " ").split())
        rows = self.connection.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (asked, NEAREST)
        )
        return [row[0] - 1 for row in rows]


class OurStore:
    """`SqliteFaissStore`, the store of this package for LangGraph: search by meaning."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        from memory import Database, SqliteFaissStore

        folder.mkdir(exist_ok=True)
        index = {"dims": vectors.dimensions, "embed": vectors, "fields": ["text"]}
        self.store = SqliteFaissStore(Database(folder / "lab.db"), index=index)

    def put(self, numbers: range) -> None:
        from langgraph.store.base import PutOp

        self.store.batch([PutOp(("notes",), str(number), {"text": text(number)}) for number in numbers])

    def finish(self) -> dict[str, Any]:
        return {}

    def ask(self, said: str) -> list[int]:
        return [int(item.key) for item in self.store.search(("notes",), query=said, limit=NEAREST)]


class InMemory:
    """LangGraph's `InMemoryStore` with an index."""

    kept = False

    def __init__(self, vectors: Vectors, folder: Path):
        from langgraph.store.memory import InMemoryStore

        self.store = InMemoryStore(
            index={"dims": vectors.dimensions, "embed": lambda texts: vectors.embed(texts).tolist(), "fields": ["text"]}
        )

    def put(self, numbers: range) -> None:
        from langgraph.store.base import PutOp

        self.store.batch([PutOp(("notes",), str(number), {"text": text(number)}) for number in numbers])

    def finish(self) -> dict[str, Any]:
        return {"version": version("langgraph")}

    def ask(self, said: str) -> list[int]:
        return [int(item.key) for item in self.store.search(("notes",), query=said, limit=NEAREST)]


class Chroma:
    """Chroma, kept in a folder, with its defaults and the inner product."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        import chromadb

        self.vectors = vectors
        settings = chromadb.Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(str(folder), settings)
        self.notes = self.client.get_or_create_collection("notes", configuration={"hnsw": {"space": "ip"}})

    def put(self, numbers: range) -> None:
        self.notes.add(
            ids=[str(number) for number in numbers],
            embeddings=self.vectors.items[numbers.start : numbers.stop],
            documents=[text(number) for number in numbers],
            metadatas=[{"env": f"twx/{number % 8}"} for number in numbers],
        )

    def finish(self) -> dict[str, Any]:
        return {"version": version("chromadb")}

    def ask(self, said: str) -> list[int]:
        found = self.notes.query(query_embeddings=self.vectors.one(said)[None], n_results=NEAREST)
        return [int(name) for name in found["ids"][0]]


class Mem0:
    """mem0 as it stores without a model that extracts: local Qdrant on disk, `infer=False`."""

    kept = True

    def __init__(self, vectors: Vectors, folder: Path):
        os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=str(folder))
        from mem0 import Memory
        from mem0.utils.factory import EmbedderFactory, LlmFactory

        class Given:
            """The vectors of the benchmark in the form that mem0 knows."""

            config = None

            def embed(self, said: str, memory_action: str | None = None) -> list[float]:
                return vectors.one(said).tolist()  # type: ignore[no-any-return]

        # Neither takes an object of one's own; the language model is never asked.
        EmbedderFactory.create = LlmFactory.create = staticmethod(lambda *_, **__: Given())
        store = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": vectors.dimensions}
        self.memory = Memory.from_config(
            {"vector_store": {"provider": "qdrant", "config": store}, "history_db_path": str(folder / "history.db")}
        )

    def put(self, numbers: range) -> None:
        for number in numbers:
            self.memory.add(text(number), user_id="one", infer=False)

    def finish(self) -> dict[str, Any]:
        return {"version": version("mem0ai")}

    def ask(self, said: str) -> list[int]:
        found = self.memory.search(said, filters={"user_id": "one"}, top_k=NEAREST, threshold=0.0)
        return [number_of(item["memory"]) for item in found["results"]]


SYSTEMS: dict[str, Callable[[Vectors, Path], System]] = {
    "flat": Flat, "fts5": FTS5, "ours": Ours, "our search": OurSearch, "our index": OurIndex,
    "our store": OurStore, "InMemoryStore": InMemory, "Chroma": Chroma, "mem0": Mem0,
}  # fmt: skip
