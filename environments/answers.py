"""What an environment may answer, checked in one place: everything that a game says passes through here.

Types are taken as they are meant (a NumPy number is a number), half characters are replaced, and None means "not told".
Whatever else is not of its type is `BadAnswer`, which names the field: an episode is better lost than learned from
where nobody knows what happened in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from environments.errors import BadAnswer

SLACK = 1e-6
"""By how much a score may miss [0, 1], as sums of rounded numbers do; it is cut."""


def validate_text(env_id: str, field: str, value: Any) -> str:
    """A text; a lone surrogate in it, which nothing can store or read, becomes `?`."""
    if not isinstance(value, str):
        raise BadAnswer(env_id, field, f"= {format_value(value)}, which is no text")
    text = str(value)  # of NumPy's kind, too
    return text if text.isascii() else text.encode(errors="replace").decode()


def validate_number(env_id: str, field: str, value: Any) -> float:
    """A finite number."""
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAnswer(env_id, field, f"= {format_value(value)}, which is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadAnswer(env_id, field, f"= {number}, which is not finite")
    return number


def validate_score(env_id: str, field: str, value: Any) -> float:
    """A number in [0, 1]."""
    score = validate_number(env_id, field, value)
    if not -SLACK <= score <= 1 + SLACK:
        raise BadAnswer(env_id, field, f"= {score:g}, which is not between 0 and 1 (other numbers go into `value`)")
    return min(1.0, max(0.0, score))


def validate_flag(env_id: str, field: str, value: Any) -> bool:
    """True or False, also as 1 or 0."""
    value = _plain(value)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise BadAnswer(env_id, field, f"= {format_value(value)}, which is neither true nor false")


def validate_commands(env_id: str, field: str, value: Any) -> list[str]:
    """Texts, sorted, each once and otherwise as the environment gave them."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise BadAnswer(env_id, field, f"= {format_value(value)}, which is no list of texts")
    commands = list(value)
    for command in commands:
        if not isinstance(command, str):
            raise BadAnswer(env_id, field, f"with {format_value(command)} in it, which is no text")
    return sorted({str(command) for command in commands})


def format_value(value: Any) -> str:
    """A value as an error names it, short and on one line."""
    try:
        text = " ".join(ascii(value).split())
    except Exception:  # what is none of ours may fail at that, too
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}…"


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value
