"""What is new in an episode: memories drawn from recalled memories would multiply without anything having happened.

An audit of a public memory system found 97.8 % of 10,134 items to be junk, most of it recalled text that had been
extracted again as if it were news (https://github.com/mem0ai/mem0/issues/4573).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from memory.records import Episode, Reflection

_WORDS = re.compile(r"\w+")


def novel(reflections: Iterable[Reflection], episode: Episode) -> list[Reflection]:
    """Those of `reflections` on `episode` whose text did not already stand in its memory block.

    Texts are compared by their words alone. One that repeats what was recalled loses its text and stays only if it has
    advice, which comes from the steps of the episode.
    """
    if not episode.hints.strip():
        return list(reflections)
    kept = []
    for reflection in reflections:
        # What answers a question was read off the steps: that it was known before makes it one more case of it.
        if not reflection.text or reflection.topic or not said_in(reflection.text, episode.hints):
            kept.append(reflection)
        elif reflection.advice:
            kept.append(reflection.model_copy(update={"text": ""}))
    return kept


def said_in(text: str, other: str) -> bool:
    """Whether the words of `text` stand in `other`, in their order and beside each other."""
    return _words(text) in _words(other)


def _words(text: str) -> str:
    """The words of `text`, each between blanks, so that one sequence of words is found in another by `in`."""
    return f" {' '.join(_WORDS.findall(text.casefold()))} "
