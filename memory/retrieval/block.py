"""The memory block: the recalled texts that enter a prompt, within a budget of tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from memory.records import Reflection
from memory.store.repeats import Tally, with_tally
from memory.text.quoting import quoted

Count = Callable[[str], int]
"""How many tokens a text has."""


def about(text: str) -> int:
    """The tokens of an English text where no tokenizer is at hand: four characters each."""
    return -(-len(text) // 4)


def fill(texts: Sequence[str], budget: int, count: Count = about, *, shorten: bool = True) -> list[str]:
    """What of each text enters a block of at most `budget` tokens; an empty text for one that is left out.

    They are taken in order, each whole if it still fits. Where not one fits, the first is shortened, if that is wanted.
    """
    shown, left = [], budget
    for text in texts:
        tokens = count(text)
        shown.append(text if tokens <= left else "")
        left -= tokens if tokens <= left else 0
    if shown and shorten and not any(shown):
        shown[0] = shortened(texts[0], budget, count)
    return shown


def shortened(text: str, budget: int, count: Count = about) -> str:
    """`text` in at most `budget` tokens: without lines of its middle, since an example needs its task and its end.

    If its first line alone is too long, only the beginning of that is left.
    """
    first, *rest = text.split("\n")
    # Both are found by halving: the fewer lines or characters, the fewer tokens.
    dropped = bisect_left(range(len(rest)), True, key=lambda drop: count("\n".join([first, *rest[drop:]])) <= budget)
    cut = "\n".join([first, *rest[dropped:]])
    if count(cut) <= budget:
        return cut
    return first[: bisect_left(range(len(first)), True, key=lambda length: count(first[: length + 1]) > budget)]


def render(reflection: Reflection, tally: Tally, channel: str) -> str:
    """What a prompt shows of it: the text with its count, and in brackets what the notes near it say.

    Whoever wrote it, in a prompt a recalled text is data. Only an example may hold actions, and has no context.
    """
    if channel == "exemplar":
        return quoted(reflection.text, turns=True)
    text = with_tally(reflection, tally)
    return quoted(f"{text} ({reflection.context})" if reflection.context else text)
