"""The index agrees with its source, whatever happened to its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from memory import HashingEmbedder, VectorIndex, errors
from memory.index import SAVE_EVERY
from memory.index_file import MAGIC
from memory.reflections import stamp
from memory.sources import Entry

EMBED = HashingEmbedder(32).embed


class Texts:
    """A source whose texts can be changed."""

    def __init__(self, *texts: str):
        self.held: dict[int, tuple[int, str]] = {}
        self.asked: list[int] = []
        for number, text in enumerate(texts, 1):
            self.put(number, text)

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
    head, body = file.read_bytes()[len(MAGIC) :].split(b"\n", 1)
    file.write_bytes(MAGIC + json.dumps({**json.loads(head), "model": "other"}).encode() + b"\n" + body)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Path.unlink, "was missing"),
        (cut, "was cut short or damaged"),
        (cut_to_its_name, "was cut short or damaged"),
        (flip, "was cut short or damaged"),
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


def test_vectors_of_another_length_are_refused(file: Path) -> None:
    with pytest.raises(errors.WrongVectors, match="32 dimensions"):
        VectorIndex(file, "hashing", 32).follow(Texts("coin"), HashingEmbedder(8).embed)
