"""A checkpoint counts only when it was written to its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainers.training import checkpoints


def written(folder: Path, step: int, *, marked: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"0123456789")
    if marked:
        checkpoints.mark(checkpoint, seconds=1.5, step=step)
    return checkpoint


def test_the_newest_whole_one_is_found_by_its_number(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        written(tmp_path, step)
    last = checkpoints.last_whole(tmp_path)
    assert last == tmp_path / "checkpoint-10"
    assert checkpoints.facts(last)["step"] == 10 and checkpoints.facts(last)["seconds"] == 1.5


def test_torn_ones_are_passed_over_and_swept_up_by_one_process_alone(tmp_path: Path) -> None:
    whole = written(tmp_path, 3)
    unmarked = written(tmp_path, 6, marked=False)
    cut = written(tmp_path, 9)
    (cut / "weights").write_bytes(b"01234")
    damaged = written(tmp_path, 12)
    (damaged / checkpoints.WHOLE).write_text("{")
    assert checkpoints.last_whole(tmp_path, tidy=False) == whole
    assert unmarked.exists() and cut.exists() and damaged.exists()
    assert checkpoints.last_whole(tmp_path) == whole
    assert not unmarked.exists() and not cut.exists() and not damaged.exists()


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert checkpoints.last_whole(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["content", "mark", "earlier version"])
def test_a_checkpoint_whose_files_have_their_sizes_and_not_their_content_is_torn(tmp_path: Path, damage: str) -> None:
    for number in (4, 8):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"a" * 5000)
        checkpoints.mark(folder, step=number)
    assert checkpoints.last_whole(tmp_path, tidy=False) == tmp_path / "checkpoint-8"
    newest = tmp_path / "checkpoint-8"
    if damage == "mark":
        (newest / checkpoints.WHOLE).write_text('{"sizes": []}')
    else:
        (newest / "optimizer.pt").write_bytes(b"a" * 4096 + b"x" * 904)
    if damage == "earlier version":  # which kept no checksums
        kept = checkpoints.facts(newest)
        (newest / checkpoints.WHOLE).write_text(json.dumps({key: kept[key] for key in ("step", "sizes")}))
    meant = newest if damage == "earlier version" else tmp_path / "checkpoint-4"
    assert checkpoints.last_whole(tmp_path, tidy=False) == meant
