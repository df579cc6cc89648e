"""The one place where an episode becomes text: what a model reads when it plays, reflects and is trained."""

from __future__ import annotations

from memory.prompts.rendering import LINE_END, Segment, action, head, quoted, report, reported, segments, turn

__all__ = [
    "LINE_END",
    "Segment",
    "action",
    "head",
    "quoted",
    "report",
    "reported",
    "segments",
    "turn",
]
