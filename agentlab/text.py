"""Words that say something, and how alike two commands are worded, so that advice on one object serves another.

Exact commands do not carry over between games with other objects: `put milk in fridge` says something about
`put cheese in fridge`, but is not admissible there. Embeddings are no help: to them, `open door to north` and
`open door to south` are nearly the same. What counts is the template: the verb, and which words stay in their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from memory.text import words

__all__ = ["carried", "likeness", "words"]


def likeness(one: str, other: str) -> float:
    """The likeness of two commands, in [0, 1]: 1 for the same, 0 for different verbs.

    Otherwise the share of words that both have in the same order (twice the common words over all words; Ratcliff and
    Obershelp's measure, on words).
    """
    first, second = one.lower().split(), other.lower().split()
    if first == second:
        return 1.0
    if not first or not second or first[0] != second[0]:
        return 0.0
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def carried(advised: str, admissible: Sequence[str]) -> dict[str, float]:
    """On which admissible commands advice about `advised` bears, and how much.

    If it is itself admissible it means itself and nothing else: that one door is the right one says nothing about the
    other. If it is not, it bears on the commands that are most like it, all equally.
    """
    if advised in admissible:
        return {advised: 1.0}
    alike = {command: likeness(advised, command) for command in admissible}
    best = max(alike.values(), default=0.0)
    return {command: value for command, value in alike.items() if value == best and value > 0}
