"""Search by words finds what shares them, ranks it by BM25, takes any text, and reads a bounded part of the index."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import Database, Reflection
from memory.cleaning import clean
from memory.reflections import Filter
from memory.words import K1, LEVELS, B, Words, _unique, stems_of

Maker = Callable[..., Reflection]
OLD, NEW = "2025-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00"


@pytest.fixture
def keep(database: Database, reflection: Maker) -> Callable[..., None]:
    """Keeps texts as reflections 1, 2, … in this order."""

    def kept(*texts: str, **values: object) -> None:
        with database.transaction():
            first = database.newest_reflection() + 1
            for number, text in enumerate(texts, first):
                database.put_reflection(reflection(f"rf-{number}", text, **values))

    return kept


def numbers(found: list[tuple[int, float]]) -> list[int]:
    return [number for number, _ in found]


def test_the_score_is_bm25(database: Database, keep: Callable[..., None]) -> None:
    texts = [
        "the red door opens to the red hall",
        "a red key",
        "nothing of the kind is in this long and idle sentence about weather",
        "the key is under the mat",
        "blue",
        "green",
    ]
    keep(*texts)
    words = {number: Counter(text.split()) for number, text in enumerate(texts, 1)}
    matching = [number for number, counts in words.items() if counts["red"] or counts["key"]]
    mean = sum(words[number].total() for number in matching) / len(matching)

    def bm25(number: int) -> float:
        score = 0.0
        for word in ("red", "key"):
            df, times = sum(word in counts for counts in words.values()), words[number][word]
            norm = K1 * (1 - B + B * words[number].total() / mean)
            score += math.log(1 + (len(texts) - df + 0.5) / (df + 0.5)) * times * (K1 + 1) / (times + norm)
        return score

    expected = sorted(((number, bm25(number)) for number in matching), key=lambda item: -item[1])
    found = Words(database).search("red key", 9)
    assert numbers(found) == [number for number, _ in expected] == [2, 1, 4]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected])
    assert Words(database).search("red key", 2) == found[:2]


def test_long_texts_are_measured_in_words(database: Database, keep: Callable[..., None]) -> None:
    keep("key " + "filler " * 300, "key " + "filler " * 20, *["other"] * 4)
    assert numbers(Words(database).search("key", 9)) == [2, 1]


def test_words_are_found_in_any_form_and_of_equals_the_older_comes_first(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("Opened doors.", "opening a DOOR", "open door", "window", "wall", "floor", "roof")
    found = Words(database).search("He opens the door!", 9)
    assert set(numbers(found)) == {1, 2, 3}
    assert numbers(found)[:2] == [1, 3]
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("text", ["", "  \n", '"', "***", "\x00\ud800\x1b[0m", "(((", "zebra"])
def test_a_text_without_known_words_finds_nothing(text: str, database: Database, keep: Callable[..., None]) -> None:
    keep("the silver key", "the coin")
    assert Words(database).search(text, 9) == []


def test_an_empty_memory_has_no_words(database: Database) -> None:
    assert Words(database).search("coin", 9) == []
    assert Words(database).search("coin", 0) == []


@pytest.mark.parametrize(
    "text",
    ['silver" OR text:"', "silver NOT key", "silver*", "-silver", "NEAR(silver key)", "text : silver", "^silver'"],
)
def test_what_looks_like_a_query_is_words(text: str, database: Database, keep: Callable[..., None]) -> None:
    keep("silver", "unrelated", "others")
    assert numbers(Words(database).search(text, 9)) == [1]


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_finds_itself_by_the_stems_under_which_it_is_kept(text: str) -> None:
    with Database(":memory:") as database:
        for number, kept in enumerate([clean(text), "silver key", "a coin"]):
            database.put_reflection(Reflection(id=f"{number}", kind="note", env="e", task="t", text=kept))
        kept_stems = {row[0] for row in database.execute("SELECT term FROM reflection_terms")}
        stems = set(stems_of(text))
        assert stems <= kept_stems
        assert (1 in numbers(Words(database).search(text, 9))) == bool(stems)


def test_an_edit_is_found_by_its_new_words_only(
    database: Database, keep: Callable[..., None], reflection: Maker
) -> None:
    keep("silver key", "coin", "door")
    words = Words(database)
    assert numbers(words.search("silver", 9)) == [1]
    database.put_reflection(reflection("rf-1", "golden key"))
    assert words.search("silver", 9) == []
    assert numbers(words.search("golden", 9)) == [1]


def test_a_reader_searches_too(database: Database, keep: Callable[..., None], path: Path) -> None:
    keep("silver key", "coin", "door")
    with Database(path, readonly=True) as reader:
        assert numbers(Words(reader).search("silver", 9)) == [1]


def test_only_what_fits_the_filter_is_found_however_far_down(database: Database, keep: Callable[..., None]) -> None:
    keep(*["coin coin"] * 40)
    keep("a coin in the far corner of a very large hall", env="twx/twc", namespace="other")
    keep(*["door"] * 60)
    words = Words(database)
    assert numbers(words.search("coin", 3)) == [1, 2, 3]
    assert numbers(words.search("coin", 3, Filter(env="twx/twc"))) == [41]
    assert numbers(words.search("coin", 3, Filter(namespace="other"))) == [41]
    assert words.search("coin", 3, Filter(env="twx/none")) == []


def test_what_is_written_later_changes_nothing_of_what_was_found_before(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("red key", "red red door and a long hall", "blue key", "coin", "wall", created_at=OLD)
    then, words = Filter(before=NEW), Words(database)
    found = words.search("red key door", 9, then)
    keep(*["red"] * 700, *["key"] * 9, "door", created_at=NEW)
    words.search("red key door", 9)
    assert words.search("red key door", 9, then) == Words(database).search("red key door", 9, then) == found
    assert words.search("red key door", 9) != found


def test_a_word_in_more_than_half_of_the_texts_says_nothing_beside_a_rarer_one(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("the coin", "the door", "the silver key", "window")
    assert numbers(Words(database).search("the silver", 9)) == [3]
    assert numbers(Words(database).search("the", 9)) == [1, 2, 3]


class Counting:
    """A database that counts the rows that are read from it."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.rows = 0

    def execute(self, sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        rows = self.inner.execute(sql, parameters)  # type: ignore[arg-type]
        self.rows += len(rows)
        return rows

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_a_common_word_is_read_to_its_limit_once_and_then_left_out(
    database: Database, keep: Callable[..., None]
) -> None:
    many = 2 * LEVELS[-1]
    keep(*["go north"] * many, "go to the silver key", *["wall"] * many)
    counting = Counting(database)
    words = Words(counting)  # type: ignore[arg-type]
    assert numbers(words.search("go silver", 2)) == [many + 1]
    assert counting.rows < sum(LEVELS) + 50
    counting.rows = 0
    assert numbers(words.search("go silver", 2)) == [many + 1]
    assert counting.rows < 50


def test_where_all_words_are_common_the_rarest_finds_the_oldest(database: Database, keep: Callable[..., None]) -> None:
    most = LEVELS[-1]
    keep(*["coin"] * most, *["coin door"] * (most + 5), *["wall"] * most)
    found = Words(database).search("coin door", 3)
    assert numbers(found) == [most + 1, most + 2, most + 3]
    assert all(score > 0 for _, score in found)


def test_reading_stops_at_a_number_of_places_whatever_the_query(database: Database, keep: Callable[..., None]) -> None:
    each = LEVELS[0]
    names = [f"word{number}" for number in range(2 * LEVELS[-1] // each)]
    for name in names:
        keep(*[name] * each)
    counting = Counting(database)
    found = Words(counting).search(" ".join(names), 10)  # type: ignore[arg-type]
    assert len(found) == 10
    assert counting.rows < 3 * LEVELS[-1]


def test_a_search_whose_transaction_was_taken_back_is_no_obstacle_to_the_next(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("a red door")
    words = Words(database)
    with pytest.raises(RuntimeError), database.transaction():
        keep("a blue door")
        assert numbers(words.search("blue", 5)) == [2]
        raise RuntimeError("rolled back")
    assert (numbers(words.search("blue", 5)), numbers(words.search("door", 5))) == ([], [1])


def test_a_search_does_not_mind_another_thread_that_writes_and_searches_meanwhile(
    database: Database, keep: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("a red door", "a blue door")
    words, newest, found = Words(database), type(database).newest_reflection, []

    def meanwhile() -> None:
        monkeypatch.undo()
        keep("a green door")
        found.append(numbers(words.search("door", 5)))

    def interrupted(self: Database, before: str | None = None) -> int:
        number = newest(self, before)
        other = threading.Thread(target=meanwhile)
        other.start()
        other.join()
        return number

    monkeypatch.setattr(type(database), "newest_reflection", interrupted)
    assert (numbers(words.search("door", 5)), found) == ([1, 2], [[1, 2, 3]])


def test_places_far_apart_are_told_apart_like_those_close_together() -> None:
    for numbers_ in ([5, 1, 5, 3], [5, 10**9, 5, 1]):
        found, places = _unique(np.array(numbers_))
        assert found.tolist() == sorted(set(numbers_)) and found[places].tolist() == numbers_
