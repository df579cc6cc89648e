"""A checkpoint counts only when it was written to its end."""

from __future__ import annotations

from pathlib import Path

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
