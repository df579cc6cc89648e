"""Where everything is kept: one SQLite file, a repository for each noun, and what takes back a change."""

from __future__ import annotations

from memory.store.connection import Connection
from memory.store.database import Database
from memory.store.detail import Detail
from memory.store.episodes import EpisodeRow, chunks, marks
from memory.store.filters import Filter
from memory.store.history import Change, History
from memory.store.links import LinkChange
from memory.store.recalls import RecallCount, RecallEvidence
from memory.store.reflections import stamp
from memory.store.repeats import evidence, tallies, told

__all__ = [
    "Change",
    "Connection",
    "Database",
    "Detail",
    "EpisodeRow",
    "Filter",
    "History",
    "LinkChange",
    "RecallCount",
    "RecallEvidence",
    "chunks",
    "evidence",
    "marks",
    "stamp",
    "tallies",
    "told",
]
