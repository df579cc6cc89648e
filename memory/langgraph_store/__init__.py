"""A LangGraph store over the same file and the same search."""

from __future__ import annotations

from memory.langgraph_store.store import SqliteFaissStore

__all__ = [
    "SqliteFaissStore",
]
