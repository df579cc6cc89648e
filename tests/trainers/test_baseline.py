"""What the base says is computed once, kept whole, and made again where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.baseline import Rows, batches, recall

ROWS: Rows = [(-1.25, -0.1), (-3.0, -2.0)]


class Base:
    """A base that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Rows:
        self.asked += 1
        return ROWS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "baseline.json"


def test_the_base_is_asked_once(path: Path) -> None:
    base = Base()
    assert recall(path, "key", 2, base) == ROWS == recall(path, "key", 2, base)
    assert base.asked == 1
    assert [file.name for file in path.parent.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("damage", ["stale", "torn", "empty", "short", "no number", "another thing"])
def test_what_does_not_fit_is_made_again(path: Path, damage: str) -> None:
    recall(path, "other" if damage == "stale" else "key", 2, Base())
    content = path.read_text()
    changed = {
        "stale": content,
        "torn": content[:-8],
        "empty": "",
        "short": content.replace("[-1.25, -0.1], ", ""),
        "no number": content.replace("-3.0", "NaN"),
        "another thing": "[1]",
    }
    path.write_text(changed[damage])
    base = Base()
    assert recall(path, "key", 2, base) == ROWS == recall(path, "key", 2, base)
    assert base.asked == 1


def test_a_base_that_fails_leaves_nothing_behind(path: Path) -> None:
    def fail() -> Rows:
        raise MemoryError

    with pytest.raises(MemoryError):
        recall(path, "key", 2, fail)
    assert not path.exists()


def test_the_longest_are_asked_first_and_share_a_batch() -> None:
    assert batches([3, 9, 5, 9, 1], 2) == [[1, 3], [2, 0], [4]]
