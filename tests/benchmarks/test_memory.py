"""The benchmark of the memory: its texts are always the same, and it fails where too little is found or too slowly."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def benchmark(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("memory")


@pytest.fixture(scope="module")
def texts(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("texts")


@pytest.mark.parametrize("vocabulary", ["games", "english"])
def test_a_question_names_most_words_of_one_text(texts: ModuleType, vocabulary: str) -> None:
    for number in range(50):
        item = texts.wanted(vocabulary, number, 1000)
        said, question = texts.text(vocabulary, item), texts.question(vocabulary, number, 1000)
        assert (texts.number_of(said), texts.number_of(question)) == (item, number)
        own, named = (set(re.findall(r"\w+", one.lower())) for one in (said, question))
        assert named <= own and round(0.6 * len(own)) == len(named)
    assert texts.text(vocabulary, 123456) == texts.text(vocabulary, 123456) != texts.text(vocabulary, 123457)


def rows(benchmark: ModuleType, **ours: Any) -> list[Any]:
    def row(name: str, **values: Any) -> Any:
        values = {"items": 10_000, "found": 1.0, **values}
        return benchmark.Row("games", benchmark.TITLES[name], 10_000, **values)

    return [row("flat", p50=1.0, found=0.6), row("fts5", p50=9.0), row("ours", **{"p50": 14.0, **ours})]


def test_bounds_hold_where_as_much_is_found_in_little_more_time(benchmark: ModuleType) -> None:
    said, broken = benchmark.bounds(rows(benchmark))
    assert broken == []
    assert "1.40 times" in said[0]


@pytest.mark.parametrize("ours", [{"found": 0.98}, {"p50": 16.0}])
def test_a_bound_breaks_where_less_is_found_or_it_takes_longer(benchmark: ModuleType, ours: dict[str, Any]) -> None:
    assert len(benchmark.bounds(rows(benchmark, **ours))[1]) == 1


def test_what_is_fused_is_found_by_either(benchmark: ModuleType, texts: ModuleType) -> None:
    item = texts.wanted("games", 0, 1000)
    one = benchmark.Row("games", "one", 1000, items=1000, p50=2.0)
    fused = benchmark.fusion("games", 1000, [(one, [[item, 1]]), (one, [[2, 3]])])
    assert (fused.found, fused.p50) == (1.0, 4.0)
