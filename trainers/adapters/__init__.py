"""Adapters: what a lab knows of each, which one serves, and how several are merged into one.

The registry has the records and promotes, a card and the provenance say where an adapter comes from; `skills` merges
what was learned apart. Weights are read only where their arithmetic is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainers.doors import lazy

if TYPE_CHECKING:
    from trainers.adapters.distance import Distance, distances
    from trainers.adapters.episodes import by_env
    from trainers.adapters.exports import Exported, export, how_to_load, how_to_serve
    from trainers.adapters.files import check_files
    from trainers.adapters.merging import MergeConfig
    from trainers.adapters.prompt_format import PromptFormat
    from trainers.adapters.provenance import Difference, Provenance, Taught, Use, difference, learned_from, trace
    from trainers.adapters.record import AdapterRecord, Change, identity
    from trainers.adapters.registry import AdapterRegistry
    from trainers.adapters.skills import compose, merge
    from trainers.lineage import Merge, Method

__all__ = [
    # Records, and where they come from
    "AdapterRecord",
    "AdapterRegistry",
    "Change",
    "Difference",
    "Provenance",
    "Taught",
    "Use",
    "by_env",
    "difference",
    "identity",
    "learned_from",
    "trace",
    # For other programs
    "Exported",
    "PromptFormat",
    "export",
    "how_to_load",
    "how_to_serve",
    # Weights: their files, how far two lie apart, and several as one
    "Distance",
    "Merge",
    "MergeConfig",
    "Method",
    "check_files",
    "compose",
    "distances",
    "merge",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "trainers.adapters.record": ("AdapterRecord", "Change", "identity"),
        "trainers.adapters.registry": ("AdapterRegistry",),
        "trainers.adapters.provenance": (
            "Difference",
            "Provenance",
            "Taught",
            "Use",
            "difference",
            "learned_from",
            "trace",
        ),
        "trainers.adapters.episodes": ("by_env",),
        "trainers.adapters.files": ("check_files",),
        "trainers.adapters.exports": ("Exported", "export", "how_to_load", "how_to_serve"),
        "trainers.adapters.prompt_format": ("PromptFormat",),
        "trainers.adapters.distance": ("Distance", "distances"),
        "trainers.adapters.merging": ("MergeConfig",),
        "trainers.lineage": ("Merge", "Method"),
        "trainers.adapters.skills": ("compose", "merge"),
    },
)
