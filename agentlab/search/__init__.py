"""Search for better trajectories: trees over environments, and the training records that are read off them.

Names are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentlab.search.config import AGENT_R, METHODS, Method, SearchConfig
    from agentlab.search.pairs import first_pits, preferences, step_preferences
    from agentlab.search.revision import Revision, revisions
    from agentlab.search.task import Found, search_task
    from agentlab.search.tasks import Searched, revise_tasks, search_tasks, tree_of
    from agentlab.search.tree import Tree
    from agentlab.search.values import quality, step_values
    from agentlab.trajectories.budget import Budget, Cost

__all__ = [
    # Searching
    "search_task",
    "search_tasks",
    "Found",
    "Searched",
    # How
    "Method",
    "METHODS",
    "SearchConfig",
    "AGENT_R",
    "Budget",
    "Cost",
    # What was tried, and what it teaches
    "Tree",
    "tree_of",
    "preferences",
    "step_preferences",
    "first_pits",
    "Revision",
    "revisions",
    "revise_tasks",
    "quality",
    "step_values",
]

_HOMES = {
    "agentlab.trajectories.budget": ("Budget", "Cost"),
    "agentlab.search.config": ("AGENT_R", "METHODS", "Method", "SearchConfig"),
    "agentlab.search.pairs": ("first_pits", "preferences", "step_preferences"),
    "agentlab.search.revision": ("Revision", "revisions"),
    "agentlab.search.task": ("Found", "search_task"),
    "agentlab.search.tasks": ("Searched", "revise_tasks", "search_tasks", "tree_of"),
    "agentlab.search.tree": ("Tree",),
    "agentlab.search.values": ("quality", "step_values"),
}


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'agentlab.search' has no attribute {name!r}")
    return getattr(import_module(home), name)
