from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentlab.errors import LabLocked
from agentlab.lab import Lab
from agentlab.workspace.lock import WriteLock

HOLD = """
import sys
from agentlab.lab import Lab
with Lab.open(sys.argv[1], create=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lab open for writing, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lab")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_told_who_holds_the_lab(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LabLocked) as caught:
        Lab.open(tmp_path / "lab")
    said = str(caught.value)
    assert f"is being written by process {holder.pid} on " in said
    assert "since 20" in said and "-c " in said
    assert "wait for it, stop it, or use another lab folder" in said


def test_looking_is_allowed_beside_a_writer(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with Lab.open(tmp_path / "lab", write=False) as lab:
        assert lab.config.format == 1


def test_a_killed_holder_leaves_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with Lab.open(tmp_path / "lab"):
        pass


def test_what_is_released_can_be_taken_again(tmp_path: Path) -> None:
    first, second = WriteLock(tmp_path / ".lock"), WriteLock(tmp_path / ".lock")
    first.acquire()
    first.release()
    first.release()
    second.acquire()
    with pytest.raises(LabLocked):
        first.acquire()
    second.release()


def test_a_holder_that_did_not_write_its_name_is_another_process(tmp_path: Path) -> None:
    held = WriteLock(tmp_path / ".lock")
    held.acquire()
    (tmp_path / ".lock").write_text("")
    with pytest.raises(LabLocked, match="by another process"):
        WriteLock(tmp_path / ".lock").acquire()
    held.release()
