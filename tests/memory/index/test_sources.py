"""Sources give an index what is new, and say in one statement whether what it has is still right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from memory import Advice, Database, Reflection
from memory.index.sources import ReflectionTexts, StateTexts, Summary, summary
from memory.store.reflections import stamp


@pytest.fixture
def texts(database: Database, reflection: Callable[..., Reflection], advice: Callable[..., Advice]) -> list[str]:
    """What was remembered, one text after the other; each with advice on a state of its own."""
    said = [f"Coins are found in room {number}." for number in range(50)]
    for number, text in enumerate(said):
        database.reflections.put(reflection(f"rf-{number}", text, advice=[advice(f"Room {number}.")]))
    return said


def test_entries_come_by_rising_mark_page_by_page(
    texts: list[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ReflectionTexts(database)
    for page in (7, 25, 50, 1000):
        monkeypatch.setattr("memory.store.texts.PAGE", page)
        entries = source.entries()
        assert entries[:, 0].tolist() == entries[:, 1].tolist() == list(range(1, 51))
        assert entries[:, 2].tolist() == [stamp(text) for text in texts]
        assert source.texts(entries[:, 1].tolist()) == texts
        assert source.entries(43).tolist() == entries[43:].tolist()
        assert source.entries(50).shape == (0, 3)


def test_states_are_entries_too(texts: list[str], database: Database) -> None:
    source = StateTexts(database)
    entries = source.entries(40)
    assert entries[:, 1].tolist() == list(range(41, 51))
    assert source.texts([41, 3]) == ["Room 40.", "Room 2."]
    assert source.summary(50) == summary(50, *source.entries()[:, 1:].T)


def test_the_summary_of_the_database_is_that_of_the_entries(
    texts: list[str], database: Database, reflection: Callable[..., Reflection]
) -> None:
    source = ReflectionTexts(database)
    before = source.entries()
    assert (before[:, 2] < 0).any() and (before[:, 2] > 0).any()
    assert source.summary(50) == summary(50, *before[:, 1:].T)
    assert source.summary(20) == summary(20, *before[:20, 1:].T)
    assert source.summary(-1) == Summary(-1, 0, 0, 0)
    database.reflections.put(reflection("rf-3", "Doors stick."))
    assert source.summary(50) != summary(50, *before[:, 1:].T)


@pytest.mark.parametrize("bit", [0, 23, 24, 40, 62, 63])
def test_a_summary_tells_any_bit_of_a_stamp_and_whose_it_is(bit: int) -> None:
    numbers = np.arange(1, 101)
    stamps = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 100)
    other = stamps.copy()
    other[17] ^= np.int64(-(2**63) if bit == 63 else 1 << bit)
    assert summary(100, numbers, stamps) != summary(100, numbers, other)
    swapped = stamps.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert summary(100, numbers, stamps) != summary(100, numbers, swapped)
    assert summary(100, numbers, stamps) != summary(99, numbers, stamps)


def test_the_sums_of_eight_million_entries_do_not_run_over() -> None:
    assert (2**24 - 1) * 2**16 * 2**23 < 2**63
    assert 2**39 * 2**23 < 2**63
