"""The index agrees with its source, whatever happened to its file."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory import HashingEmbedder, VectorIndex, errors
from memory.index.file import MAGIC
from memory.index.graph import Graph
from memory.index.items import Items
from memory.index.sources import Entry, Summary, summary
from memory.index.vector_index import SAVE_EVERY
from memory.index.vectors import Vectors
from memory.store.reflections import stamp

EMBED = HashingEmbedder(32).embed


class Texts:
    """A source whose texts can be changed."""

    def __init__(self, *texts: str):
        self.held = {number: (number, text) for number, text in enumerate(texts, 1)}
        self.asked: list[int] = []

    def put(self, number: int, text: str) -> None:
        self.held[number] = (max([mark for mark, _ in self.held.values()], default=0) + 1, text)

    def entries(self, after: int = -1) -> list[Entry]:
        return sorted(Entry(mark, number, stamp(text)) for number, (mark, text) in self.held.items() if mark > after)

    def texts(self, numbers: Sequence[int]) -> list[str]:
        self.asked += numbers
        return [self.held[number][1] for number in numbers]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "texts.faiss"


@pytest.fixture
def opened(file: Path, notes: list[str]) -> Callable[..., VectorIndex]:
    def made(source: Texts, **options: object) -> VectorIndex:
        index = VectorIndex(file, "hashing", 32, notify=notes.append, **options)  # type: ignore[arg-type]
        index.follow(source, EMBED)
        return index

    return made


def nearest(index: VectorIndex, text: str, **options: object) -> int:
    return index.search(EMBED([text])[0], 1, **options)[0][0]  # type: ignore[arg-type]


def agrees(index: VectorIndex, source: Texts) -> bool:
    numbers = sorted(source.held)
    return len(index) == len(numbers) and np.allclose(
        index.vectors(numbers), EMBED([source.held[number][1] for number in numbers])
    )


def test_the_nearest_text_is_found_with_its_cosine(opened: Callable[..., VectorIndex]) -> None:
    index = opened(Texts("coin in the kitchen", "door in the hall", "map of the garden"))
    (number, cosine), *_rest = index.search(EMBED(["coin in the kitchen"])[0], 3)
    assert (number, cosine) == (1, pytest.approx(1))
    assert nearest(index, "coin in the kitchen", only=[2, 3]) != 1
    assert index.search(EMBED(["coin"])[0], 5, only=[]) == []
    assert len(index.search(EMBED(["coin"])[0], 50)) == 3


def test_an_index_that_was_never_filled_finds_nothing(file: Path) -> None:
    assert VectorIndex(file, "hashing", 32).search(EMBED(["coin"])[0], 3) == []


def test_what_is_new_or_changed_is_taken_over(opened: Callable[..., VectorIndex]) -> None:
    source = Texts("coin in the kitchen", "door in the hall")
    index = opened(source)
    source.asked.clear()
    source.put(3, "map of the garden")
    source.put(1, "sword in the cellar")
    index.follow(source, EMBED)
    assert source.asked == [3, 1]
    assert nearest(index, "sword in the cellar") == 1
    assert agrees(index, source)


def test_a_saved_index_is_used_again_without_a_word(opened: Callable[..., VectorIndex], notes: list[str]) -> None:
    source = Texts("coin in the kitchen", "door in the hall")
    opened(source, expected=False).save()
    source.asked.clear()
    index = opened(source)
    assert (source.asked, notes) == ([], [])
    assert agrees(index, source)


def test_an_index_that_is_only_behind_catches_up_without_a_word(
    opened: Callable[..., VectorIndex], notes: list[str]
) -> None:
    source = Texts("coin in the kitchen")
    opened(source, expected=False).save()
    source.put(2, "door in the hall")
    source.asked.clear()
    assert agrees(opened(source), source)
    assert (source.asked, notes) == ([2], [])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def cut_to_its_name(file: Path) -> None:
    file.write_bytes(MAGIC[:5])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def rename_model(file: Path) -> None:
    content = file.read_bytes()
    said, body = content[len(MAGIC) :].split(b"\n", 1)
    said = said.rpartition(b" ")[0].replace(b'"hashing"', b'"other"')
    file.write_bytes(MAGIC + said + b" %08x\n" % zlib.crc32(said) + body)


def flip_the_head(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"mark": 2', b'"mark": 9'))


def make_older(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"vectors 2", b"vectors 1"))


def add_a_byte(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Path.unlink, "was missing"),
        (cut, "was cut short or damaged"),
        (cut_to_its_name, "was cut short or damaged"),
        (flip, "was cut short or damaged"),
        (flip_the_head, "was cut short or damaged"),
        (add_a_byte, "was cut short or damaged"),
        (make_older, "was written by another version of this program"),
        (empty, "was cut short or damaged"),
        (rename_model, "was made by the embedder 'other', and this lab uses 'hashing'"),
        (lambda file: (file.unlink(), file.mkdir()), "could not be read"),
    ],
)
def test_whatever_is_wrong_with_the_file_it_is_made_again_and_said(
    harm: Callable[[Path], None], why: str, opened: Callable[..., VectorIndex], file: Path, notes: list[str]
) -> None:
    source = Texts("coin in the kitchen", "door in the hall")
    opened(source, expected=False).save()
    harm(file)
    index = opened(source)
    assert agrees(index, source)
    assert notes[0].startswith(f"The index texts.faiss {why}")
    assert notes[0].endswith("making it again from the database (2 items).")
    if file.is_file():  # Once, not at every start.
        notes.clear()
        assert agrees(opened(source), source)
        assert notes == []


def test_an_index_of_another_past_is_mended_and_said(opened: Callable[..., VectorIndex], notes: list[str]) -> None:
    """As when an older copy of the database was put back: other texts under the same numbers, and fewer of them."""
    opened(Texts("coin in the kitchen", "door in the hall", "map of the garden"), expected=False).save()
    source = Texts("coin in the kitchen", "sword in the cellar")
    index = opened(source)
    assert agrees(index, source)
    assert source.asked == [2]
    assert notes == [
        "The index texts.faiss does not agree with the database on 2 of 3 items; "
        "making it again from the database (1 items)."
    ]


def test_an_index_that_never_was_is_no_news(opened: Callable[..., VectorIndex], notes: list[str]) -> None:
    assert agrees(opened(source := Texts("coin"), expected=False), source)
    opened(Texts())
    assert notes == []


def test_many_changes_are_saved_without_being_asked(opened: Callable[..., VectorIndex], file: Path) -> None:
    source = Texts("coin")
    index = opened(source, expected=False)
    assert not file.exists()
    for number in range(2, SAVE_EVERY + 2):
        source.put(number, f"coin number {number}")
    index.follow(source, EMBED)
    assert file.exists()


def test_a_reader_never_writes_the_file(opened: Callable[..., VectorIndex], file: Path) -> None:
    source = Texts("coin")
    index = opened(source, readonly=True)
    index.save()
    assert agrees(index, source)
    assert not file.exists()


def test_a_file_that_cannot_be_written_costs_nothing_but_time(
    opened: Callable[..., VectorIndex], file: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Texts("coin")
    index = opened(source, expected=False)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    index.save()
    assert notes[0].startswith("The index texts.faiss could not be saved (No space left on device); nothing is lost")
    assert list(file.parent.glob("texts.faiss*")) == []
    assert agrees(index, source)


def test_what_a_killed_process_left_beside_the_file_is_swept_away(
    opened: Callable[..., VectorIndex], file: Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = file.with_name(f"{file.name}.{ended.pid}.new")
    in_work = file.with_name(f"{file.name}.{os.getppid()}.new")
    theirs = file.with_name(f"{file.name}.mine.new")
    for path in (left, in_work, theirs):
        path.touch()
    opened(Texts("coin"), expected=False).save()
    assert [path.exists() for path in (file, left, in_work, theirs)] == [True, False, True, True]


def test_vectors_of_another_length_are_refused(opened: Callable[..., VectorIndex], file: Path) -> None:
    with pytest.raises(errors.WrongVectors, match="32 dimensions"):
        VectorIndex(file, "hashing", 32).follow(Texts("coin"), HashingEmbedder(8).embed)
    with pytest.raises(errors.WrongVectors, match=r"asked for a vector of shape \(8,\)"):
        opened(Texts("coin")).search(HashingEmbedder(8).embed(["coin"])[0], 1)


def test_vectors_of_what_is_not_there_are_no_answer(opened: Callable[..., VectorIndex]) -> None:
    with pytest.raises(KeyError, match="7"):
        opened(Texts("coin")).vectors([1, 7])


# Texts that share a vector


def test_equal_texts_are_all_found_the_oldest_first(opened: Callable[..., VectorIndex]) -> None:
    index = opened(Texts("coin", "door", "coin", "coin"))
    query = EMBED(["coin"])[0]
    assert [number for number, _ in index.search(query, 3)] == [1, 3, 4]
    assert [number for number, _ in index.search(query, 2)] == [1, 3]
    assert [number for number, _ in index.search(query, 2, only=[4, 2, 3])] == [3, 4]
    assert (index.stats().items, index.stats().vectors) == (4, 2)


def test_texts_that_become_equal_and_different_again_are_told_apart(opened: Callable[..., VectorIndex]) -> None:
    source = Texts("coin", "door", "coin", "map")
    index = opened(source)
    for number, text in ((1, "door"), (3, "map"), (2, "coin"), (1, "coin"), (4, "door"), (3, "lamp"), (4, "map")):
        source.put(number, text)
        index.follow(source, EMBED)
        assert agrees(index, source)
        for other in source.held:
            same = [here for here in sorted(source.held) if source.held[here][1] == source.held[other][1]]
            assert [found for found, _ in index.search(EMBED([source.held[other][1]])[0], len(same))] == same
    index.save()
    assert agrees(opened(source), source)


def test_an_entry_that_is_there_twice_counts_as_the_later_one(file: Path) -> None:
    """As when a text is changed while the entries are being fetched page by page."""
    source = Texts("coin", "door")
    index = VectorIndex(file, "hashing", 32)
    first = source.entries()
    source.put(1, "lamp")
    source.entries = lambda after=-1: [*first, *[entry for entry in Texts.entries(source, after) if entry.mark > 2]]  # type: ignore[method-assign]
    index.follow(source, EMBED)
    assert agrees(index, source)
    assert source.asked == [2, 1]


# Large ones


WORDS = ("coin", "door", "map", "lamp", "sword", "kitchen", "hall", "garden", "cellar", "list", "apple", "oven")


def many(count: int, *, start: int = 0) -> list[str]:
    """Different texts about a few topics, as a memory of games has them."""
    return [
        f"{WORDS[place % 12]} {WORDS[place // 12 % 12]} {WORDS[place // 144 % 12]} step {place} of game {place // 7}"
        for place in range(start, start + count)
    ]


QUERIES = EMBED([f"{text} again" for text in many(40, start=10_000)])


@pytest.fixture
def large(opened: Callable[..., VectorIndex]) -> tuple[VectorIndex, Texts]:
    """An index that is searched by its graph."""
    source = Texts(*many(600))
    index = opened(source, expected=False, threshold=200)
    index.build()
    return index, source


def share_found(index: VectorIndex, source: Texts, only: Sequence[int] | None = None) -> float:
    """Recall at 10 against exhaustive search, by cosine, over queries that are no texts of the source."""
    numbers = sorted(source.held if only is None else only)
    cosines = QUERIES @ EMBED([source.held[number][1] for number in numbers]).T
    shares = []
    for query, exact in zip(QUERIES, np.sort(cosines)[:, ::-1], strict=True):
        found = index.search(query, 10, only=only)
        assert {number for number, _ in found} <= set(numbers)
        assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
        shares.append(sum(cosine >= exact[9] - 1e-5 for _, cosine in found) / 10)
    return sum(shares) / len(shares)


def test_a_small_index_is_flat_and_a_large_one_has_a_graph(opened: Callable[..., VectorIndex], file: Path) -> None:
    source = Texts(*many(150))
    index = opened(source, threshold=200, expected=False)
    assert (index.stats().kind, index.stats().graphed, index.stats().recall) == ("flat", 0, None)
    assert share_found(index, source) == 1
    for number, text in enumerate(many(450, start=150), 151):
        source.held[number] = (number, text)
    looks = 0
    while index.stats().kind == "flat":
        index.follow(source, EMBED)
        looks += 1
        # At every moment of its growth the answers are exact.
        assert looks < 20 and (index.stats().kind == "hnsw" or share_found(index, source) == 1)
    stats = index.stats()
    assert looks > 1 and (stats.graphed, stats.items) == (600, 600)
    assert stats.recall is not None and stats.recall >= 0.99 and stats.list_length > 0


def test_the_graph_finds_what_exhaustive_search_finds(
    large: tuple[VectorIndex, Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, source = large
    monkeypatch.setattr("memory.index.graph.STEP_COST", 0)  # However few rows there are, the graph is asked.
    monkeypatch.setattr(Vectors, "cosines", unexpected)
    monkeypatch.setattr(Vectors, "cosines_of", unexpected)
    assert index.stats().kind == "hnsw"
    assert share_found(index, source) >= 0.98


def unexpected(*_: object, **__: object) -> np.ndarray:
    raise AssertionError("searched exactly")


@pytest.mark.parametrize("step_cost", [0, 80])
def test_a_filter_keeps_the_recall_whether_it_lets_in_many_few_or_only_what_is_far(
    step_cost: int, large: tuple[VectorIndex, Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, source = large
    monkeypatch.setattr("memory.index.graph.STEP_COST", step_cost)
    far = QUERIES.sum(axis=0)
    ranked = sorted(source.held, key=lambda number: float(EMBED([source.held[number][1]])[0] @ far))
    for only in (list(range(2, 600, 2)), list(range(1, 600, 40)), ranked[:300], ranked[:30]):
        assert share_found(index, source, only) >= 0.98
    assert index.search(EMBED(["coin"])[0], 5, only=[]) == []
    assert len(index.search(EMBED(["coin"])[0], 5, only=[3, 700, -4, 9])) == 2


def test_a_graph_that_has_come_apart_is_not_believed(
    large: tuple[VectorIndex, Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then reaches fewer rows than it was asked for."""
    index, source = large
    monkeypatch.setattr("memory.index.graph.STEP_COST", 0)
    found = Graph.search
    monkeypatch.setattr(Graph, "search", lambda *given: tuple(part[:-1] for part in found(*given)))
    assert share_found(index, source) == 1


def test_what_is_changed_in_a_large_index_is_found_by_its_new_text_only(
    large: tuple[VectorIndex, Texts], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, source = large
    monkeypatch.setattr("memory.index.graph.STEP_COST", 0)
    for number, text in enumerate(many(100, start=5000), 1):
        source.put(number, text)
    index.follow(source, EMBED)
    assert (index.stats().kind, index.stats().dead, len(index)) == ("hnsw", 100, 600)
    assert nearest(index, many(1, start=5000)[0]) == 1
    assert index.search(EMBED(many(1))[0], 1)[0][1] < 0.999
    assert share_found(index, source) >= 0.98
    # What is not in the graph yet, less than what is worth putting in, is found all the same.
    source.put(700, "a late sword")
    index.follow(source, EMBED)
    assert index.stats().graphed < index.stats().vectors + index.stats().dead
    assert nearest(index, "a late sword") == 700


def test_too_many_dead_rows_are_thrown_out(large: tuple[VectorIndex, Texts]) -> None:
    index, source = large
    for number, text in enumerate(many(400, start=5000), 1):
        source.put(number, text)
    index.follow(source, EMBED)
    assert (index.stats().dead, index.stats().vectors) == (0, 600)
    assert agrees(index, source) and share_found(index, source) == 1
    index.build()
    assert index.stats().kind == "hnsw" and share_found(index, source) >= 0.98


def test_a_graph_is_given_up_when_little_is_left(
    large: tuple[VectorIndex, Texts], opened: Callable[..., VectorIndex]
) -> None:
    """As when an older, smaller copy of the database was put back."""
    source = Texts(*many(90))
    index = opened(source, threshold=200)
    assert (index.stats().kind, index.stats().graphed, index.stats().dead) == ("flat", 0, 0)
    assert agrees(index, source) and share_found(index, source) == 1


def test_the_graph_is_in_the_file(
    large: tuple[VectorIndex, Texts], opened: Callable[..., VectorIndex], notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    index, source = large
    source.put(700, "a late sword")
    index.follow(source, EMBED)
    index._write()
    monkeypatch.setattr(Graph, "add", unexpected)
    again = opened(source, threshold=200, readonly=True)
    assert replace(again.stats(), bytes=0) == replace(index.stats(), bytes=0)
    assert agrees(again, source) and share_found(again, source) == share_found(index, source)
    assert nearest(again, "a late sword") == 700
    monkeypatch.undo()
    source.put(3, "a bright lamp")
    again.follow(source, EMBED)
    again.build()
    assert nearest(again, "a bright lamp") == 3
    assert again.stats().graphed == 602
    assert notes == []


def test_a_damaged_graph_never_reaches_the_reader_of_faiss(
    large: tuple[VectorIndex, Texts], opened: Callable[..., VectorIndex], file: Path, notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, source = large
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    content[content.index(b"IHN") + 200] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(Graph, "from_bytes", unexpected)
    index = opened(source, threshold=10_000)
    assert agrees(index, source)
    assert notes == ["The index texts.faiss was cut short or damaged; making it again from the database (600 items)."]


def test_a_graph_of_another_kind_is_made_again(
    large: tuple[VectorIndex, Texts], opened: Callable[..., VectorIndex], notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As after a new version of FAISS that writes otherwise: the bytes are whole, but they are not such a graph."""
    index, source = large
    for content in (np.frombuffer(b"none of it", np.uint8), Graph(32).to_bytes()):
        monkeypatch.setattr(Graph, "to_bytes", lambda self, content=content: content)
        index._write()
        monkeypatch.undo()
        assert agrees(opened(source, threshold=200), source)
        assert "was cut short or damaged; making it again" in notes[0]
        notes.clear()


def test_a_graph_that_finds_too_little_does_not_serve(
    opened: Callable[..., VectorIndex], notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.index.graph.WANTED", 1.1)
    source = Texts(*many(600))
    index = opened(source, expected=False, threshold=200)
    index.build()
    assert (index.stats().kind, index.stats().graphed) == ("flat", 0)
    assert share_found(index, source) == 1
    assert "search stays exact" in notes[0]
    index.build()
    assert len(notes) == 1  # Not again and again, but when there are twice as many.
    monkeypatch.undo()
    for number, text in enumerate(many(700, start=600), 601):
        source.held[number] = (number, text)
    index.follow(source, EMBED)
    index.build()
    assert index.stats().kind == "hnsw"


def test_a_graph_whose_file_says_what_other_questions_found_is_measured_once_more(
    large: tuple[VectorIndex, Texts], opened: Callable[..., VectorIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, source = large
    measured: list[int] = []
    measure = Graph.measure
    monkeypatch.setattr(Graph, "measure", lambda graph: (measured.append(len(graph)), measure(graph)))
    with monkeypatch.context() as earlier:
        earlier.setattr("memory.index.vector_index.AWAY", 0.5)
        index._write()
    index = opened(source, threshold=200)
    assert (len(measured), index.stats().kind) == (1, "hnsw")
    index.save()
    assert (opened(source, threshold=200).stats().kind, len(measured)) == ("hnsw", 1)


def test_a_graph_that_has_grown_is_measured_again(large: tuple[VectorIndex, Texts]) -> None:
    index, source = large
    graph = index._vectors.graph
    assert graph is not None and graph.measured == 600
    for number, text in enumerate(many(400, start=600), 601):
        source.held[number] = (number, text)
    for _ in range(4):
        index.follow(source, EMBED)
    assert graph.measured > 600 and index.stats().kind == "hnsw"


def test_equal_vectors_do_not_cut_a_graph_into_pieces(opened: Callable[..., VectorIndex]) -> None:
    """Eighty times the same text, more than a row has links: equal rows would link to each other and nothing else."""
    source = Texts(*many(40) * 80)
    index = opened(source, expected=False, threshold=30)
    index.build()
    assert (index.stats().kind, index.stats().vectors, len(index)) == ("hnsw", 40, 3200)
    assert share_found(index, source) == 1
    text = many(1, start=7)[0]
    assert [number for number, _ in index.search(EMBED([text])[0], 80)] == list(range(8, 3201, 40))


def test_a_long_build_says_how_far_it_is_and_does_not_begin_unsaid(
    opened: Callable[..., VectorIndex], notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.index.vector_index.STEP", 5)
    index = opened(Texts(*many(600)), expected=False, threshold=200)
    assert len(notes) == 1 and "600 vectors; a graph for faster search grows while it is used" in notes[0]
    told: list[tuple[int, int]] = []
    index.build(lambda done, total: told.append((done, total)))
    assert told[0] == (45, 600) and told[-1] == (600, 600) and told == sorted(told)


# Files


def test_a_few_changes_are_not_worth_writing_a_large_file(opened: Callable[..., VectorIndex], file: Path) -> None:
    source = Texts(*many(600))
    index = opened(source, expected=False)
    index.save()
    before = file.stat().st_ino
    for number in (1, 2, 3):
        source.put(number, f"a bright lamp {number}")
    index.follow(source, EMBED)
    index.save()
    assert file.stat().st_ino == before
    source.put(4, "a bright lamp 4")
    index.follow(source, EMBED)
    index.save()
    assert file.stat().st_ino != before


def test_two_who_save_at_once_leave_a_whole_file(
    opened: Callable[..., VectorIndex], file: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two objects of one process: the second saves while the first is about to rename."""
    one, other = Texts("coin in the kitchen"), Texts("coin in the kitchen", "door in the hall")
    first, second = opened(one, expected=False), opened(other, expected=False)
    flush = os.fsync

    def meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        second.save()
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    first.save()
    assert list(file.parent.glob("texts.faiss*")) == [file]
    assert agrees(opened(other), other)
    assert notes == []


def test_an_item_changed_since_the_file_was_written_is_news_and_no_fault(
    opened: Callable[..., VectorIndex], notes: list[str]
) -> None:
    source = Texts("coin in the kitchen", "door in the hall")
    opened(source, expected=False).save()
    source.put(1, "lamp in the cellar")
    assert agrees(opened(source), source)
    assert notes == []


class Sums(Texts):
    """A source that also says what its entries come to."""

    def summary(self, upto: int) -> Summary:
        entries = np.asarray([entry for entry in self.entries() if entry.mark <= upto]).reshape(-1, 3)
        return summary(int(entries[:, 0].max(initial=-1)), entries[:, 1], entries[:, 2])


def test_a_file_that_agrees_in_sum_is_not_compared_item_by_item(
    opened: Callable[..., VectorIndex], notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Sums("coin in the kitchen", "door in the hall")
    opened(source, expected=False).save()
    source.put(3, "map of the garden")
    monkeypatch.setattr(Items, "disagreement", unexpected)
    assert agrees(opened(source), source)
    assert notes == []


def test_a_database_put_back_to_before_a_change_of_status_is_followed_on(opened: Callable[..., VectorIndex]) -> None:
    """The texts are the same, but the marks begin again lower, and what comes next must not be missed."""
    source = Sums("coin in the kitchen", "door in the hall")
    before = dict(source.held)
    source.put(2, "door in the hall")
    opened(source, expected=False).save()
    source.held = before
    index = opened(source)
    source.put(3, "map of the garden")
    index.follow(source, EMBED)
    assert agrees(index, source)
