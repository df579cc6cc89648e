"""What texts go through: cleaned and quoted as data, cut into words, told apart from thoughts, read from JSON lines."""

from __future__ import annotations

from memory.text.cleaning import TEXT_LIMIT, clean, cleaned, name
from memory.text.content import words
from memory.text.jsonlines import loaded, parsed, whole
from memory.text.jsonlines import read as read_lines
from memory.text.moments import typed
from memory.text.novelty import novel, said_in
from memory.text.quoting import EXAMPLE, TAGS, quoted, quoted_line
from memory.text.segmentation import phrases, segmented
from memory.text.thoughts import answer_in, answered, is_tag, left_open

__all__ = [
    "EXAMPLE",
    "TAGS",
    "TEXT_LIMIT",
    "answer_in",
    "answered",
    "clean",
    "cleaned",
    "is_tag",
    "left_open",
    "loaded",
    "name",
    "novel",
    "parsed",
    "phrases",
    "quoted",
    "quoted_line",
    "read_lines",
    "said_in",
    "segmented",
    "typed",
    "whole",
    "words",
]
