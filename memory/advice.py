"""How facts about one action in one state add up, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterable

from memory.records import Advice


def absorb(known: Advice, fact: Advice) -> None:
    """Add `fact` to `known`: counts are summed, the best value and the worst blame are kept."""
    known.visits += fact.visits
    known.no_effect += fact.no_effect
    known.negative += fact.negative
    known.lost += fact.lost
    known.blame = max(known.blame, fact.blame)
    known.value = max(known.value, fact.value)


def merged_advice(facts: Iterable[Advice]) -> list[Advice]:
    """One fact for each action in each state, in the order in which they first occur; `facts` are left as they are."""
    book: dict[tuple[str, str], Advice] = {}
    for fact in facts:
        if fact.key in book:
            absorb(book[fact.key], fact)
        else:
            book[fact.key] = fact.model_copy()
    return list(book.values())
