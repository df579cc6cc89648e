"""Texts to search, of two vocabularies, and questions that name one of them by most of its words.

`games`: four clauses of some 120 words, as notes on text games are. `english`: twenty words of the 4,000 commonest of
ordinary English in `english.txt` (whole words of BERT's vocabulary, which stands in the order of frequency), the n-th
about 1/n as often as the first. A text is the same for the same number everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

ROOMS, THINGS, PLACES, LOOKS, VERBS = (
    line.split()
    for line in (
        "kitchen hallway garden cellar attic bedroom bathroom pantry laundry driveway corridor backyard garage study "
        "library balcony",
        "coin key map lamp sword knife apple carrot pepper onion potato shirt towel book hat coat shoe plate cup fork "
        "spoon soap brush box",
        "drawer cupboard fridge stove oven shelf table counter chest wardrobe basket rack desk bench cabinet "
        "dishwasher",
        "red blue green yellow white black old wooden rusty clean dirty wet dry small large golden",
        "take put open close cook slice fry roast wash move drop eat",
    )
)

SHARE = 0.6
"""Of the words of a text that a question names."""
FIRST = 0x2800
"""Numbers stand at the end of texts in braille patterns, three digits of base 256: signs, which no search by words
reads.
"""


def game(chance: Random) -> str:
    """What happened in a text game."""
    pick = chance.choice
    clauses = [
        f"{pick(VERBS)} the {pick(LOOKS)} {pick(THINGS)} from the {pick(PLACES)} in the {pick(ROOMS)}",
        f"go {pick(('north', 'south', 'east', 'west'))} to the {pick(ROOMS)}",
        f"{pick(VERBS)} the {pick(LOOKS)} {pick(THINGS)} with the {pick(THINGS)}",
        f"the {pick(PLACES)} in the {pick(ROOMS)} was {pick(('open', 'closed', 'empty', 'locked'))}",
    ]
    return f"{', then '.join(clauses)}; it {pick(('won', 'lost', 'failed', 'scored'))}."


def english(chance: Random) -> str:
    """Twenty ordinary words."""
    words = _english()
    # Where the sum of 1/n up to a word passes a random share of the whole: the n-th has probability ~ 1/n.
    return " ".join(words[int(len(words) ** chance.random()) - 1] for _ in range(20))


@cache
def _english() -> list[str]:
    return Path(__file__).with_name("english.txt").read_text(encoding="utf-8").split()


VOCABULARIES: dict[str, Callable[[Random], str]] = {"games": game, "english": english}


def text(vocabulary: str, number: int) -> str:
    """The text with this number, which it ends with."""
    return f"{VOCABULARIES[vocabulary](Random(f'{vocabulary} {number}'))} {_signs(number)}"


def wanted(vocabulary: str, number: int, size: int) -> int:
    """Which of `size` texts the question with this number asks for."""
    return Random(f"{vocabulary} question {number}").randrange(size)


def question(vocabulary: str, number: int, size: int) -> str:
    """Most words of one text, in any order; the number of the question stands at its end."""
    item = wanted(vocabulary, number, size)
    words = list(dict.fromkeys(re.findall(r"\w+", text(vocabulary, item).lower())))
    named = Random(f"{vocabulary} words {number}").sample(words, max(1, round(SHARE * len(words))))
    return f"{' '.join(named)}? {_signs(number)}"


def number_of(said: str) -> int:
    """The number that a text or a question ends with."""
    value = 0
    for sign in said[-3:]:
        value = value * 256 + ord(sign) - FIRST
    return value


def _signs(number: int) -> str:
    return "".join(chr(FIRST + (number >> shift) % 256) for shift in (16, 8, 0))
