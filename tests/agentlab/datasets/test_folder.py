"""Where a data set is written: whole or not at all, and over nothing but an earlier one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentlab.datasets import folder as folders
from agentlab.errors import BadConfig
from agentlab.lab import Lab
from memory.records import Episode

Play = Callable[..., Episode]


@pytest.fixture
def played(lab: Lab, play: Play) -> Lab:
    """A lab with an episode of each of two folds."""
    for fold in ("train", "test"):
        lab.database.episodes.put(play(f"e-{fold}", "go east", split=fold))
    return lab


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_export_is_replaced_whole(played: Lab, tmp_path: Path) -> None:
    target = tmp_path / "data"
    played.export_episodes(target)
    assert contents(target) == {"README.md", folders.MARK, "episodes/train.parquet", "episodes/test.parquet"}
    played.export_episodes(target, split="train")
    assert contents(target) == {"README.md", folders.MARK, "episodes/train.parquet"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab"]


def test_a_new_and_an_empty_folder_are_taken_and_folders_above_are_made(played: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "a" / "b" / "new"):
        assert played.export_episodes(target).folder == target and "README.md" in contents(target)


def test_what_no_export_wrote_is_never_touched(played: Lab, tmp_path: Path) -> None:
    full, mine, file, linked = (tmp_path / name for name in ("full", "mine", "file", "linked"))
    full.mkdir()
    (full / "README.md").write_text("My own.")
    file.write_text("My own.")
    for target in (mine, linked):
        played.export_episodes(target)
    (mine / ".git").mkdir()
    (mine / ".git" / "config").write_text("My own.")
    (linked / "models").symlink_to(full)
    for target, why in ((full, "holds no export"), (mine, ".git/config, which no export wrote"), (file, "is a file"),
                        (linked, "models, which"), (played.folder, "lies in a lab"),
                        (played.folder / "in" / "it", "lies in a lab")):  # fmt: skip
        with pytest.raises(BadConfig, match=why):
            played.export_episodes(target)
    assert (full / "README.md").read_text() == file.read_text() == (mine / ".git" / "config").read_text() == "My own."
    assert not (played.folder / "in").exists()


KILLED = """
import os, sys
from pathlib import Path
from agentlab.lab import Lab
count = 0
def redact(text):
    global count
    count += 1
    if count > 8:
        os._exit(9)
    return text
with Lab.open(sys.argv[1], write=False) as lab:
    lab.export_episodes(sys.argv[2], redact=redact)
"""


def test_a_kill_leaves_what_was_there_and_the_next_export_clears_up(
    played: Lab, tmp_path: Path, in_a_process: Callable[..., tuple[int, str]]
) -> None:
    target = tmp_path / "data"
    assert in_a_process(KILLED, str(played.folder), str(target))[0] == 9
    assert not target.exists(), "half a data set"
    played.export_episodes(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab"]
    before = {name: (target / name).read_bytes() for name in contents(target)}
    assert in_a_process(KILLED, str(played.folder), str(target))[0] == 9
    assert {name: (target / name).read_bytes() for name in contents(target)} == before
    played.export_episodes(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lab"]


def test_a_kill_between_the_two_moves_loses_nothing(
    played: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, replace, moved = tmp_path / "data", os.replace, []
    played.export_episodes(target)

    def once(source: Path, place: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(source)
        replace(source, place)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        played.export_episodes(target)
    monkeypatch.setattr(os, "replace", replace)
    assert not target.exists()
    with pytest.raises(BadConfig, match="nothing was written"):
        played.export_episodes(target, arm="none")
    assert "README.md" in contents(target), "it came back"


def test_two_exports_do_not_write_one_folder(played: Lab, tmp_path: Path) -> None:
    beside = tmp_path / ".data.partial"
    beside.mkdir()
    (beside / "half").write_text("")
    lock = os.open(beside, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BadConfig, match="Another export is writing"):
            played.export_episodes(tmp_path / "data")
        assert (beside / "half").exists()
    finally:
        os.close(lock)
    played.export_episodes(tmp_path / "data")
    assert not beside.exists() and "half" not in contents(tmp_path / "data")
