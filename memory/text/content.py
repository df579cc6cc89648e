"""The words of a text that say something."""

from __future__ import annotations

import re

STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "at",
        "for",
        "from",
        "go",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "now",
        "of",
        "on",
        "or",
        "that",
        "the",
        "then",
        "there",
        "this",
        "to",
        "was",
        "with",
        "you",
        "your",
    ]
)


def words(text: str) -> frozenset[str]:
    """The content words of a text, lower case."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - STOP_WORDS
