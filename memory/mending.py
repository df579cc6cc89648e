"""Numbers as earlier versions stored them, put right where they break a bound that a record has now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_numbers(stored: Any) -> Any:
    """A step's or an episode's fields with 0 for a reward or a score that was no number."""
    missing = [name for name in ("reward", "score") if isinstance(stored, dict) and stored.get(name, 0.0) is None]
    return {**stored, **dict.fromkeys(missing, 0.0)} if missing else stored


def mend(found: Any, where: tuple[int | str, ...], bounds: Mapping[str, Any], kind: str) -> None:
    """Put a number that is out of its bounds to the nearest, and one that is none to 0, its list to None."""
    numbers = ("greater_than_equal", "less_than_equal", "finite_number", "float_type")
    if kind not in numbers:
        return
    *path, last = where
    value: float | None = bounds.get("ge", bounds.get("le", 0.0))
    if isinstance(last, int) and not bounds:
        *path, last = path
        value = None
    for step in path:
        found = found[step]
    if kind != "float_type" or found[last] is None or value is None:
        found[last] = value
