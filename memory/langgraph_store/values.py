"""The values of a LangGraph store's items: what may be kept, and which fit a filter."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from memory import errors


def checked_value(value: object) -> tuple[dict[str, Any], str]:
    """`value` as plain dictionaries and lists, and as JSON.

    Raises:
        InvalidItem: if it is no mapping with text keys and values that JSON has.
    """
    if not isinstance(value, Mapping):
        raise errors.InvalidItem(
            f"The value of an item is a mapping, not {type(value).__name__}; put it under a key, as in {{'text': …}}."
        )
    try:
        plain = _plain(value)
        encoded = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidItem(
            f"The value cannot be kept as JSON ({error}); use text keys, and text, numbers, true, false, null, "
            "lists and mappings as values."
        ) from error
    return plain, encoded


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise TypeError(f"the key {wrong!r} is not text")
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def fits(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether an item's value fits a filter: every key equals what is wanted there, or compares to it as it should.

    A wanted mapping whose keys begin with `$` holds operators (`$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`), another
    one describes a part of a nested mapping; a list is compared element by element; a key that is not there counts as
    None. A key with dots is a path through nested mappings, as in LangGraph's SQLite store, unless there is just that
    key. Numbers compare as numbers, also where they are written as text, other texts by their characters; what
    cannot be compared, such as None with 3, does not fit.

    Raises:
        ValueError: for an operator that there is not.
    """
    return all(_fits(_found(value, key), part) for key, part in (wanted or {}).items())


def _found(value: Mapping[str, Any], key: str) -> Any:
    """What stands under a key or at the end of a path of keys; None where nothing does."""
    if key in value or "." not in key:
        return value.get(key)
    first, rest = key.split(".", 1)
    inner = value.get(first)
    return _found(inner, rest) if isinstance(inner, Mapping) else None


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(key.startswith("$") for key in wanted):
            return all(_compares(value, name, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and fits(value, wanted)
    if isinstance(wanted, (list, tuple)):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    return bool(value == wanted)


def _compares(value: Any, name: str, operand: Any) -> bool:
    if name in ("$eq", "$ne"):
        return bool(value == operand) is (name == "$eq")
    if name not in _ORDERS:
        raise ValueError(f"There is no operator '{name}' in a filter; use $eq, $ne, $gt, $gte, $lt or $lte.")
    left, right = _number(value), _number(operand)
    if left is not None and right is not None:
        return _ORDERS[name](left, right)
    return isinstance(value, str) and isinstance(operand, str) and _ORDERS[name](value, operand)


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def checked_ttl(ttl: float | None) -> float | None:
    """`ttl` itself. Raises `InvalidItem` unless it is a finite number of minutes or None."""
    if ttl is not None and not (isinstance(ttl, (int, float)) and math.isfinite(ttl)):
        raise errors.InvalidItem(f"The time to live is a number of minutes or None, not {ttl!r}; give one.")
    return ttl
