"""Quantities as games write them: `17 grapefruits`, `37mg of wood`, and how much they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

UNITS: dict[str, tuple[str, Fraction]] = {
    unit: (measure, Fraction(factor))
    for measure, units in {
        "mass": {"mg": "1/1000", "g": "1", "kg": "1000", "t": "1000000", "oz": "28.349523125", "lb": "453.59237"},
        "length": {"mm": "1/1000", "cm": "1/100", "m": "1", "km": "1000", "in": "0.0254", "ft": "0.3048"},
        "volume": {"ml": "1/1000", "cl": "1/100", "dl": "1/10", "l": "1"},
        "time": {"s": "1", "min": "60", "h": "3600"},
    }.items()
    for unit, factor in units.items()
}
"""Units by their names: what they measure, and how much one is of its first unit."""

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_QUANTITY = re.compile(
    rf"(?<![\w.,])(?P<number>{_NUMBER})\s?(?:(?P<unit>{'|'.join(sorted(UNITS, key=len, reverse=True))})(?: of)? )?\s*"
    r"(?P<thing>[A-Za-z][A-Za-z' -]*)"
)


@dataclass(frozen=True)
class Quantity:
    """A quantity as it is written, and how much it is of `measure` (empty: things that are counted)."""

    text: str
    measure: str
    amount: Fraction


def number(text: str) -> Fraction:
    """The number that is written. Raises ValueError."""
    return Fraction(text.replace(",", ""))


def quantity(text: str) -> Quantity | None:
    """The quantity that a text is, from its beginning to its end; None if it is none."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return None
    measure, factor = UNITS[found["unit"]] if found["unit"] else ("", Fraction(1))
    return Quantity(text.strip(), measure, number(found["number"]) * factor)


def of_commands(commands: Iterable[str]) -> list[Quantity]:
    """The quantities that commands are about, as they write them: of `put 17 grapefruits in box` the grapefruits."""
    found: dict[str, Quantity] = {}
    for command in commands:
        words = command.split(" ", 1)
        rest = re.split(r" (?:in|into|on|onto|from|to|with) (?!of\b)", words[1] if len(words) > 1 else "")[0]
        one = quantity(rest)
        if one is not None:
            found.setdefault(one.text, one)
    return list(found.values())


def of_texts(texts: Iterable[str]) -> list[Quantity]:
    """The quantities that stand in texts between brackets, commas and `and`."""
    found: dict[str, Quantity] = {}
    for text in texts:
        for piece in re.split(r"[(),.;:]| and |\n", text):
            bare = re.sub(r"^\s*(?:an?|the|some) ", "", piece)
            one = quantity(bare)
            if one is not None:
                found.setdefault(one.text, one)
    return list(found.values())


def shown(value: Fraction) -> str:
    """A number as a person writes it: whole, or with at most six digits behind the point."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
