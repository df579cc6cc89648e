"""What is found again: by meaning (FAISS, a cache of the database) and by words (BM25)."""

from __future__ import annotations

from memory.index.bm25 import BM25
from memory.index.embedder import CachedEmbedder, Embedder, HashingEmbedder, SentenceTransformerEmbedder
from memory.index.indexes import Indexes
from memory.index.sources import Entries, Source
from memory.index.stats import IndexStats
from memory.index.vector_index import VectorIndex

__all__ = [
    "BM25",
    "CachedEmbedder",
    "Embedder",
    "Entries",
    "HashingEmbedder",
    "IndexStats",
    "Indexes",
    "SentenceTransformerEmbedder",
    "Source",
    "VectorIndex",
]
