from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import errors
from memory.langgraph_store.values import checked_ttl, checked_value, fits

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=3))
def test_a_value_of_json_is_kept_as_it_is_and_fits_itself(value: dict[str, Any]) -> None:
    plain, encoded = checked_value(value)
    assert plain == value == json.loads(encoded)
    assert fits(plain, {key: {"$eq": part} for key, part in value.items()})
    assert not any(fits(plain, {key: {"$ne": part}}) for key, part in value.items())


def test_mappings_and_tuples_become_plain() -> None:
    value = MappingProxyType({"a": MappingProxyType({"b": (1, (2,))})})
    assert checked_value(value) == ({"a": {"b": [1, [2]]}}, '{"a":{"b":[1,[2]]}}')


CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("text", "not str"),
        ([1], "not list"),
        ({"a": {1: 2}}, "the key 1 is not text"),
        ({"a": {2}}, "set"),
        ({"a": b"x"}, "bytes"),
        ({"a": float("nan")}, "Out of range float"),
        ({"a": "\ud800"}, "surrogates"),
        (CIRCLE, "recursion"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_reason(value: Any, why: str) -> None:
    with pytest.raises(errors.InvalidItem, match=why):
        checked_value(value)


@pytest.mark.parametrize(
    ("value", "wanted", "fitting"),
    [
        (None, {"$gt": 3}, False),
        ("red", {"$gt": 3}, False),
        (3, {"$gt": "red"}, False),
        ([4], {"$gt": 3}, False),
        ({"a": 4}, {"$gt": 3}, False),
        ("10", {"$gt": "9"}, True),
        ("10", {"$gt": 9}, True),
        ("2024-05-01", {"$gte": "2024-05-01", "$lt": "2024-06-01"}, True),
        ("2024-06-01", {"$lt": "2024-06-01"}, False),
        (True, {"$gte": 1}, True),
        (2**53 + 1, {"$gt": 2**53}, True),
        (5, {"$lt": 10**400}, True),
        (1, {"$gt": float("nan")}, False),
    ],
)
def test_only_what_can_be_compared_is(value: Any, wanted: Any, fitting: bool) -> None:
    assert fits({"x": value}, {"x": wanted}) is fitting


def test_an_unknown_operator_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'\$in'.*\$eq, \$ne"):
        fits({"x": 1}, {"x": {"$in": [1]}})


def test_a_filter_of_nothing_fits_everything() -> None:
    assert fits({}, None) and fits({"x": 1}, {})


def test_a_time_to_live_is_a_number_of_minutes_or_none() -> None:
    assert (checked_ttl(None), checked_ttl(0), checked_ttl(1.5)) == (None, 0, 1.5)


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        ({"user.access-level": "admin"}, True),
        ({"user.access-level": "guest"}, False),
        ({"user.team.name": {"$eq": "red"}}, True),
        ({"user.team.size": {"$gt": 2}}, True),
        ({"user.team": {"size": 3}}, True),
        ({"user.none.name": None}, True),
        ({"user.none.name": "red"}, False),
        ({"file.name": "a.txt"}, True),
        ({"user.name.first": "x"}, False),
    ],
)
def test_a_key_with_dots_is_a_path_unless_there_is_just_that_key(wanted: dict[str, Any], fitting: bool) -> None:
    team = {"name": "red", "size": 3}
    value = {
        "user": {"access-level": "admin", "team": team, "name": "Ann"},
        "file.name": "a.txt",
        "file": {"name": "b"},
    }
    assert fits(value, wanted) is fitting
