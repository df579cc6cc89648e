"""What many episodes say together: duplicates merged, links, summaries, rules, forgetting; and how a memory stands."""

from __future__ import annotations

from memory.consolidation.consolidation import METHODS, Consolidation, Method, Plan, Writer
from memory.consolidation.job import Action
from memory.consolidation.report import Health, IndexHealth, health, uplift_line

__all__ = [
    "Action",
    "Consolidation",
    "Health",
    "IndexHealth",
    "METHODS",
    "Method",
    "Plan",
    "Writer",
    "health",
    "uplift_line",
]
