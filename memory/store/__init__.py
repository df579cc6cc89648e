"""Where everything is kept: one SQLite file, a repository for each noun, and what takes back a change."""

from __future__ import annotations

from memory.store.connection import Connection
from memory.store.database import Database
from memory.store.detail import Detail
from memory.store.episodes import EpisodeRow, Totals
from memory.store.events import Event, EventKind, Events
from memory.store.filters import ACTIVE, ALL_EPISODES, EVERYTHING, EpisodeFilter, Filter
from memory.store.history import Change, History
from memory.store.inbox import LARGEST as LARGEST_REQUEST
from memory.store.inbox import Entry, Inbox
from memory.store.links import LinkChange
from memory.store.listing import Facet, Played, Sort
from memory.store.mending import MENDED, VERBS, Mended, Mending, Verb, edited, wording
from memory.store.merges import family
from memory.store.operations import Batch, Operation
from memory.store.origins import CLIENTS, origin
from memory.store.purging import UNFINISHED, Purged, finish, meant, purge
from memory.store.recalls import RecallCount, RecallEvidence, RecallFilter
from memory.store.reflection_listing import Listing, Order, ReflectionFacet, repeat_counts
from memory.store.reflections import stamp
from memory.store.repeats import evidence, tallies, with_tally
from memory.store.sql import chunks, conditions, marks
from memory.store.tool_uses import ToolEvidence, ToolTotal, ToolUses
from memory.store.versions import Version

__all__ = [
    "ACTIVE",
    "ALL_EPISODES",
    "Batch",
    "CLIENTS",
    "Change",
    "Connection",
    "Database",
    "Detail",
    "EVERYTHING",
    "Entry",
    "EpisodeFilter",
    "EpisodeRow",
    "Event",
    "EventKind",
    "Events",
    "Facet",
    "Filter",
    "History",
    "Inbox",
    "LARGEST_REQUEST",
    "LinkChange",
    "Listing",
    "MENDED",
    "Mended",
    "Mending",
    "Operation",
    "Order",
    "Played",
    "Purged",
    "RecallCount",
    "RecallEvidence",
    "RecallFilter",
    "ReflectionFacet",
    "Sort",
    "ToolEvidence",
    "ToolTotal",
    "ToolUses",
    "Totals",
    "UNFINISHED",
    "VERBS",
    "Verb",
    "Version",
    "chunks",
    "conditions",
    "edited",
    "evidence",
    "family",
    "finish",
    "marks",
    "meant",
    "origin",
    "purge",
    "repeat_counts",
    "stamp",
    "tallies",
    "with_tally",
    "wording",
]
