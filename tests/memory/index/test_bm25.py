"""Search by words finds what FTS5's BM25 finds, in any script, takes any text, and depends on no later writing."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import Database, HashingEmbedder, Reflection, ReflectionMemory
from memory.index.bm25 import BM25
from memory.store import Filter
from memory.store.reflections import stamp
from memory.store.words import EMPTY_STAMP, texts_indexed
from memory.text.cleaning import clean
from memory.text.segmentation import phrases

Maker = Callable[..., Reflection]
OLD, NEW = "2025-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00"


@pytest.fixture
def keep(database: Database, reflection: Maker) -> Callable[..., None]:
    """Keeps texts as reflections 1, 2, … in this order."""

    def kept(*texts: str, **values: object) -> None:
        with database.transaction():
            first = database.reflections.newest() + 1
            for number, text in enumerate(texts, first):
                database.reflections.put(reflection(f"rf-{number}", text, **values))

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
    mean = sum(counts.total() for counts in words.values()) / len(words)

    def score(number: int) -> float:
        total = 0.0
        for word in ("red", "key"):
            df, times = sum(word in counts for counts in words.values()), words[number][word]
            norm = 1.2 * (1 - 0.75 + 0.75 * words[number].total() / mean)
            total += math.log((len(texts) - df + 0.5) / (df + 0.5)) * times * 2.2 / (times + norm)
        return total

    expected = sorted(((number, score(number)) for number in matching), key=lambda item: -item[1])
    found = BM25(database).search("red key", 9)
    assert numbers(found) == [number for number, _ in expected] == [2, 1, 4]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected])
    assert BM25(database).search("red key", 2) == found[:2]


VOCABULARY = [f"word{number}" for number in range(600)]


def zipf(chance: Random, count: int) -> list[str]:
    """Words as language draws them: the n-th about 1/n as often as the first."""
    return [VOCABULARY[int(len(VOCABULARY) ** chance.random()) - 1] for _ in range(count)]


def exhaustive(database: Database, text: str, count: int) -> list[float]:
    """The scores of the `count` best by FTS5 alone."""
    rows = database.connection.execute(
        "SELECT -bm25(reflections_fts) AS score FROM reflections_fts WHERE reflections_fts MATCH ? "
        "ORDER BY score DESC LIMIT ?",
        (" OR ".join(phrases(text)), count),
    )
    return [score for (score,) in rows]


def test_the_best_are_those_of_fts5_alone(database: Database, keep: Callable[..., None]) -> None:
    chance = Random(0)
    keep(*[" ".join(zipf(chance, 12)) for _ in range(1000)])
    for length in (1, 2, 4, 8, 16, 40):
        query = " ".join(zipf(chance, length))
        for count in (1, 10, 32, 2000):
            found = [score for _, score in BM25(database).search(query, count)]
            assert found == pytest.approx(exhaustive(database, query, count), abs=1e-3)


def test_long_texts_are_measured_in_words(database: Database, keep: Callable[..., None]) -> None:
    keep("key " + "filler " * 300, "key " + "filler " * 20, *["other"] * 4)
    assert numbers(BM25(database).search("key", 9)) == [2, 1]


def test_words_are_found_in_any_form_and_of_equals_the_older_comes_first(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("Opened doors.", "opening a DOOR", "open door", "window", "wall", "floor", "roof")
    found = BM25(database).search("He opens the door!", 9)
    assert set(numbers(found)) == {1, 2, 3}
    assert numbers(found)[:2] == [1, 3]
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("text", ["", "  \n", '"', "***", "\x00\ud800\x1b[0m", "(((", "zebra"])
def test_a_text_without_known_words_finds_nothing(text: str, database: Database, keep: Callable[..., None]) -> None:
    keep("the silver key", "the coin")
    assert BM25(database).search(text, 9) == []


def test_an_empty_memory_has_no_words(database: Database) -> None:
    assert BM25(database).search("coin", 9) == []
    assert BM25(database).search("coin", 0) == []


@pytest.mark.parametrize(
    "text",
    ['silver" OR text:"', "silver NOT key", "silver*", "-silver", "NEAR(silver key)", "text : silver", "^silver'"],
)
def test_what_looks_like_a_query_is_words(text: str, database: Database, keep: Callable[..., None]) -> None:
    keep("silver", "unrelated", "others")
    assert numbers(BM25(database).search(text, 9)) == [1]


class Undo(Exception):
    """Takes back what an example wrote."""


@pytest.fixture(scope="module")
def one_for_all() -> Iterator[Database]:
    with Database(":memory:") as database:
        yield database


@settings(max_examples=50, deadline=None, derandomize=True)
@given(text=st.text(max_size=60) | st.text('日本語かなカナ한글ไทยกุญแจ e\u0301\u3099ﾊﾟ_-"*()', max_size=20))
def test_any_text_finds_itself_if_it_has_words(one_for_all: Database, text: str) -> None:
    database = one_for_all
    with contextlib.suppress(Undo), database.transaction():
        for number, kept in enumerate([clean(text), "silver key", "a coin"]):
            database.reflections.put(Reflection(id=f"{number}", kind="note", env="e", task="t", text=kept))
        sizes = database.connection.execute("SELECT sz FROM reflections_fts_docsize WHERE id = 1")
        assert (1 in numbers(BM25(database).search(text, 9))) == (sizes not in ([], [(b"\x00",)]))
        raise Undo


def test_what_has_no_text_changes_nothing_of_how_rare_words_and_how_long_texts_are(
    database: Database, keep: Callable[..., None], path: Path, reflection: Maker
) -> None:
    keep("the silver key", "the coin", "the door of the hall", created_at=OLD)
    alone = BM25(database).search("the key door", 9)
    keep(*[""] * 20, created_at=OLD)
    keep(*["the key is here"] * 20, created_at=OLD, status="repeated", merged_into="rf-1")
    assert BM25(database).search("the key door", 9) == alone
    keep("later", created_at=NEW)
    assert BM25(database).search("the key door", 9, Filter(before=NEW, status=None)) == alone
    database.reflections.put(reflection("rf-44", "", created_at=NEW))
    assert BM25(database).search("the key door", 9) == alone
    with Database(path, readonly=True) as reader:
        assert texts_indexed(reader.connection.execute)
    assert stamp("") == EMPTY_STAMP


def test_an_edit_is_found_by_its_new_words_only(
    database: Database, keep: Callable[..., None], reflection: Maker
) -> None:
    keep("silver key", "coin", "door")
    bm25_ = BM25(database)
    assert numbers(bm25_.search("silver", 9)) == [1]
    database.reflections.put(reflection("rf-1", "golden key"))
    assert bm25_.search("silver", 9) == []
    assert numbers(bm25_.search("golden", 9)) == [1]


def test_a_reader_searches_too(database: Database, keep: Callable[..., None], path: Path) -> None:
    keep("silver key", "coin", "door")
    with Database(path, readonly=True) as reader:
        assert numbers(BM25(reader).search("silver", 9)) == [1]


def test_only_what_fits_the_filter_is_found_however_far_down(database: Database, keep: Callable[..., None]) -> None:
    keep(*["coin coin"] * 40)
    keep("a coin in the far corner of a very large hall", env="twx/twc", namespace="other")
    keep(*["door"] * 60)
    bm25_ = BM25(database)
    assert numbers(bm25_.search("coin", 3)) == [1, 2, 3]
    assert numbers(bm25_.search("coin", 3, Filter(env="twx/twc", status=None))) == [41]
    assert numbers(bm25_.search("coin", 3, Filter(namespace="other", status=None))) == [41]
    assert bm25_.search("coin", 3, Filter(env="twx/none", status=None)) == []


def test_what_is_written_later_changes_nothing_of_what_was_found_before(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("red key", "red red door and a long hall", "blue key", "coin", "wall", created_at=OLD)
    then, bm25_ = Filter(before=NEW, status=None), BM25(database)
    found = bm25_.search("red key door", 9, then)
    keep(*["red"] * 700, *["key"] * 9, "door", created_at=NEW)
    bm25_.search("red key door", 9)
    assert bm25_.search("red key door", 9, then) == BM25(database).search("red key door", 9, then) == found
    assert bm25_.search("red key door", 9) != found


def test_a_word_of_most_texts_finds_them_behind_those_of_a_rarer_one(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("the coin", "the door", "the silver key", "window")
    assert numbers(BM25(database).search("the silver", 9)) == [3, 1, 2]
    assert numbers(BM25(database).search("the silver", 1)) == [3]
    assert numbers(BM25(database).search("the", 9)) == [1, 2, 3]


def test_a_search_whose_transaction_was_taken_back_is_no_obstacle_to_the_next(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("a red door")
    bm25_ = BM25(database)
    with pytest.raises(RuntimeError), database.transaction():
        keep("a blue door")
        assert numbers(bm25_.search("blue", 5)) == [2]
        raise RuntimeError("rolled back")
    assert (numbers(bm25_.search("blue", 5)), numbers(bm25_.search("door", 5))) == ([], [1])


def test_a_search_does_not_mind_another_thread_that_writes_and_searches_meanwhile(
    database: Database, keep: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep("a red door", "a blue door")
    bm25_, newest, found = BM25(database), database.reflections.newest, []

    def meanwhile() -> None:
        monkeypatch.undo()
        keep("a green door")
        found.append(numbers(bm25_.search("door", 5)))

    def interrupted(before: str | None = None) -> int:
        number = newest(before)
        other = threading.Thread(target=meanwhile)
        other.start()
        other.join()
        return number

    monkeypatch.setattr(database.reflections, "newest", interrupted)
    assert (numbers(bm25_.search("door", 5, Filter(before="2999", status=None))), found) == ([1, 2], [[1, 2, 3]])


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("地図は机の上", "地 図"),  # a blank within
        ("ロープを取る", "ﾛｰﾌﾟ"),  # half width
        ("Take the ＫＥＹ", "key"),  # full width
        ("Prenez la cle\u0301 du caf\u00e9", "clé cafe\u0301"),
        ("Straße nach Süden", "SÜDEN"),
        ("चाबी रसोई में है", "चाबी"),
        ("Ключ на кухне", "ключ"),
        ("去store买coin", "coin"),
        ("\U00020bb7野家で食べる", "\U00020bb7野家"),
    ],
)
def test_words_are_found_in_whatever_form_they_are_typed(
    text: str, query: str, database: Database, keep: Callable[..., None]
) -> None:
    keep("unrelated", text, "others", "door")
    assert numbers(BM25(database).search(query, 1)) == [2]


def test_a_lab_of_the_version_before_is_searched_by_a_reader_without_writing_and_by_a_writer(
    older: Callable[..., Any], path: Path, reflection: Maker
) -> None:
    with older(7, reflection("rf-1", "去厨房拿钥匙"), reflection("rf-2", "去花园拿水壶")):
        pass
    before = path.read_bytes()
    with Database(path, readonly=True) as reader:
        assert numbers(BM25(reader).search("水壶", 9)) == [2]
    assert path.read_bytes() == before
    for _ in range(2):
        with Database(path) as database:
            assert numbers(BM25(database).search("水壶", 9)) == [2]
            assert database.connection.execute(
                "SELECT count(*) FROM sqlite_master WHERE name LIKE 'reflection_words%'"
            ) == [(0,)]


def test_a_reader_recalls_lists_and_shows_what_a_lab_of_an_older_version_holds(
    older: Callable[..., Any], path: Path, tmp_path: Path, reflection: Maker
) -> None:
    with older(7, reflection("rf-1", "The silver key."), reflection("rf-2", "The golden coin.")):
        pass
    with Database(path, readonly=True) as reader:
        memory = ReflectionMemory(reader, HashingEmbedder(64), tmp_path / "texts.faiss")
        (hit,) = memory.recall(
            "key", wanted=Filter(env="twx/coin", exclude_task="t"), episode="ep-9", k=1, record=False
        )
        assert hit.text == "The silver key."
        assert memory.show("rf-2").tally.games == 1
        assert [item.id for item in reader.reflections.find(Filter(advising=True))] == ["rf-1", "rf-2"]
        assert (memory.credit.review(), memory.credit.worth(["rf-1"], None)) == ([], {"rf-1": 0.0})


TORN = {
    "missing": "DROP TABLE reflections_fts",
    "short of a text": "DELETE FROM reflections_fts WHERE rowid = 2",
    "cut short": "UPDATE reflections_fts_data SET block = x'00' WHERE id > 10",
    "without its structure": "UPDATE reflections_fts_data SET block = x'ffffffffffffffffff' WHERE id = 10",
}


@pytest.mark.parametrize("statement", TORN.values(), ids=TORN)
def test_a_torn_index_of_words_is_made_again_and_never_trusted(statement: str, path: Path, reflection: Maker) -> None:
    with Database(path) as database:
        for number, text in enumerate(["silver key", "golden coin", "a door"], 1):
            database.reflections.put(reflection(f"rf-{number}", text))
        database.connection.execute(statement)
    with Database(path, readonly=True) as reader:
        assert numbers(BM25(reader).search("golden", 9)) == [2]
        assert numbers(BM25(reader).search("silver", 9)) == [1]
    with Database(path) as database:
        database.reflections.put(reflection("rf-4", "a golden lamp"))
        assert numbers(BM25(database).search("golden", 9)) == [2, 4]
        assert numbers(BM25(database).search("silver door", 9)) == [1, 3]
        database.connection.execute("INSERT INTO reflections_fts (reflections_fts) VALUES ('integrity-check')")


def test_a_recall_in_a_transaction_sees_what_is_not_committed_and_another_thread_is_not_kept(
    database: Database, keep: Callable[..., None]
) -> None:
    keep("a red door", created_at=OLD)
    bm25_ = BM25(database)
    with database.transaction():
        keep("a blue door", created_at=NEW)
        assert numbers(bm25_.search("blue door", 9)) == [2, 1]
        assert numbers(bm25_.search("blue door", 9, Filter(before=NEW, status=None))) == [1]
