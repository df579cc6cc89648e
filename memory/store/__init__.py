"""Where everything is kept: one SQLite file, a repository for each noun, and what takes back a change."""

from __future__ import annotations

from memory.store.connection import Connection
from memory.store.database import Database
from memory.store.detail import Detail
from memory.store.episodes import EpisodeRow, Totals
from memory.store.events import Event, EventKind, Events
from memory.store.filters import ACTIVE, EVERYTHING, EpisodeFilter, Filter
from memory.store.history import Change, History
from memory.store.links import LinkChange
from memory.store.listing import Facet, Played, Sort
from memory.store.recalls import RecallCount, RecallEvidence, RecallFilter
from memory.store.reflections import stamp
from memory.store.repeats import evidence, tallies, with_tally
from memory.store.sql import chunks, conditions, marks

__all__ = [
    "ACTIVE",
    "Change",
    "Connection",
    "Database",
    "Detail",
    "EVERYTHING",
    "EpisodeFilter",
    "EpisodeRow",
    "Event",
    "EventKind",
    "Events",
    "Facet",
    "Filter",
    "History",
    "LinkChange",
    "Played",
    "RecallCount",
    "RecallEvidence",
    "RecallFilter",
    "Sort",
    "Totals",
    "chunks",
    "conditions",
    "evidence",
    "marks",
    "stamp",
    "tallies",
    "with_tally",
]
