"""What the base says is computed once, kept batch by batch, and made again where it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from trainers.training.baseline import Rows, batches, recall

ROWS: Rows = [(-1.25, -0.1), (-3.0, -2.0), (-0.1 - 0.2, -1e-17)]
PLAN = [[2, 0], [1]]


class Base:
    """A base that counts which batches it is asked about, and fails at one index."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[list[int]] = []
        self.fails_at = fails_at

    def __call__(self, batch: Sequence[int]) -> Rows:
        if self.fails_at in batch:
            raise MemoryError
        self.asked.append(list(batch))
        return [ROWS[index] for index in batch]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "baseline.jsonl"


def test_the_base_is_asked_once_and_its_answers_are_kept_to_the_last_bit(path: Path) -> None:
    base = Base()
    assert recall(path, "key", PLAN, base) == ROWS == recall(path, "key", PLAN, base)
    assert base.asked == PLAN
    assert [file.name for file in path.parent.iterdir()] == ["baseline.jsonl"]


@pytest.mark.parametrize("damage", ["stale", "empty", "no text", "another thing"])
def test_a_file_that_does_not_fit_is_made_again(path: Path, damage: str) -> None:
    recall(path, "other" if damage == "stale" else "key", PLAN, Base())
    contents = {"stale": path.read_bytes(), "empty": b"", "no text": b"\xff\xfe", "another thing": b"[1]\n"}
    path.write_bytes(contents[damage])
    base = Base()
    assert recall(path, "key", PLAN, base) == ROWS == recall(path, "key", PLAN, base)
    assert base.asked == PLAN


@pytest.mark.parametrize("damage", ["torn", "no number", "no row", "lost", "another thing"])
def test_of_a_batch_whose_lines_are_not_all_whole_all_are_made_again(path: Path, damage: str) -> None:
    recall(path, "key", [[1], [2, 0]], Base())
    content, line = path.read_text(), "[0, -1.25, -0.1]\n"
    assert content.endswith(line)
    instead = {"torn": line[:-3], "no number": "[0, NaN, -0.1]\n", "no row": "[0]\n", "lost": "", "another thing": "7"}
    path.write_text(content.removesuffix(line) + instead[damage])
    base = Base()
    assert recall(path, "key", PLAN, base) == ROWS == recall(path, "key", PLAN, base)
    assert base.asked == [[2, 0]]


def test_what_was_answered_before_a_failure_is_kept(path: Path) -> None:
    with pytest.raises(MemoryError):
        recall(path, "key", PLAN, Base(fails_at=1))
    base = Base()
    assert recall(path, "key", PLAN, base) == ROWS
    assert base.asked == [[1]]


def test_the_longest_are_asked_first_and_share_a_batch() -> None:
    assert batches([3, 9, 5, 9, 1], 2) == [[1, 3], [2, 0], [4]]
