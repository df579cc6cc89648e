"""The one place where an episode becomes text: what a model reads when it plays, reflects and is trained."""

from __future__ import annotations

from memory.prompts.chat import Message, Prompting, Reply, answer, messages, read, seen, system, task
from memory.prompts.readings import Reading, pinned, read_at_start, read_by, readings
from memory.prompts.rendering import (
    LINE_END,
    Segment,
    action,
    head,
    one_line,
    quoted,
    report,
    reported,
    segments,
    thought,
    turn,
)

__all__ = [
    "LINE_END",
    "Message",
    "Prompting",
    "Reading",
    "Reply",
    "Segment",
    "action",
    "answer",
    "head",
    "messages",
    "one_line",
    "pinned",
    "quoted",
    "read",
    "read_at_start",
    "read_by",
    "readings",
    "report",
    "reported",
    "seen",
    "segments",
    "system",
    "task",
    "thought",
    "turn",
]
