"""What is recalled, and why: both searches fused, the parts of the score, diversity."""

from __future__ import annotations

from memory.retrieval.block import Count, about, fill
from memory.retrieval.retriever import Hit, Retriever, Use, Weights

__all__ = [
    "Count",
    "Hit",
    "Retriever",
    "Use",
    "Weights",
    "about",
    "fill",
]
