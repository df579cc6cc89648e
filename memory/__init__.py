"""What was lived and what was learned from it: episodes, reflections, and when each of them helped.

Names are loaded when they are first used, so that a program that needs only the records gets only those.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory.credit import Credit, CreditConfig, Uplift
    from memory.errors import MemoryStoreError
    from memory.index import CachedEmbedder, Embedder, HashingEmbedder, SentenceTransformerEmbedder, VectorIndex
    from memory.langgraph_store import SqliteFaissStore
    from memory.records import Advice, Episode, Evidence, Recall, Reflection, Step
    from memory.reflection_memory import ReflectionMemory
    from memory.retrieval import Hit, Retriever, Weights
    from memory.store import Database, Detail, EpisodeFilter, EpisodeRow, Filter

__all__ = [
    # the front of the package
    "ReflectionMemory",
    "Detail",
    "Filter",
    "Hit",
    "Weights",
    # what is kept
    "Step",
    "Episode",
    "Advice",
    "Evidence",
    "Reflection",
    "Recall",
    # where it is kept
    "Database",
    "EpisodeFilter",
    "EpisodeRow",
    # how it is found again
    "Embedder",
    "SentenceTransformerEmbedder",
    "HashingEmbedder",
    "CachedEmbedder",
    "VectorIndex",
    "Retriever",
    # what it is worth
    "Credit",
    "CreditConfig",
    "Uplift",
    # the same for agents built with LangGraph
    "SqliteFaissStore",
    # what can go wrong
    "MemoryStoreError",
]

_HOMES = {
    "reflection_memory": ("ReflectionMemory",),
    "store": (
        "Database",
        "Detail",
        "EpisodeRow",
        "EpisodeFilter",
        "Filter",
    ),
    "retrieval": (
        "Hit",
        "Weights",
        "Retriever",
    ),
    "credit": (
        "Credit",
        "CreditConfig",
        "Uplift",
    ),
    "records": (
        "Step",
        "Episode",
        "Advice",
        "Evidence",
        "Reflection",
        "Recall",
    ),
    "index": (
        "Embedder",
        "SentenceTransformerEmbedder",
        "HashingEmbedder",
        "CachedEmbedder",
        "VectorIndex",
    ),
    "langgraph_store": ("SqliteFaissStore",),
    "errors": ("MemoryStoreError",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"memory.{module}"), name)
    raise AttributeError(f"module 'memory' has no attribute '{name}'")
