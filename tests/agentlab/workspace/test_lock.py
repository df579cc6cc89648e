from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentlab.errors import LabLocked
from agentlab.lab import Lab
from agentlab.workspace import lock
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


def named(path: Path, **otherwise: object) -> Path:
    """A lock file that names a holder."""
    usual = {"pid": os.getpid(), "host": socket.gethostname(), "command": "agentlab run", "since": "2026-01-01T00:00"}
    path.write_text(json.dumps({**usual, **otherwise}))
    return path


def test_who_looks_on_is_told_who_writes_without_taking_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    file = tmp_path / "lab" / ".lock"
    before = file.read_bytes(), file.stat().st_mtime_ns
    found = lock.holder(file)
    assert found is not None and found.pid == holder.pid and found.host == socket.gethostname()
    assert found.command.startswith("-c ") and found.since.startswith("20")
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    holder.kill()
    holder.wait()
    assert lock.holder(file) is None  # though its name still stands there


def test_when_nobody_writes_there_is_no_holder(tmp_path: Path) -> None:
    assert lock.holder(tmp_path / ".lock") is None
    held = WriteLock(tmp_path / ".lock")
    held.acquire()
    assert lock.holder(tmp_path / ".lock") is not None
    held.release()
    assert lock.holder(tmp_path / ".lock") is None


def test_a_holder_on_another_machine_is_believed(tmp_path: Path) -> None:
    found = lock.holder(named(tmp_path / ".lock", host="another-machine", pid=2**22 + 1))
    assert found is not None and "another-machine" in str(found)


def test_a_process_that_has_the_number_of_a_holder_that_died_holds_nothing(tmp_path: Path) -> None:
    assert lock.holder(named(tmp_path / ".lock")) is None  # this process is there, and has locked nothing


@pytest.mark.parametrize("pid", [0, -1, -(2**40), 10**30, 1e400, "x", None, [], {}])
def test_a_process_that_cannot_be_is_no_holder(pid: object, tmp_path: Path) -> None:
    assert lock.holder(named(tmp_path / ".lock", pid=pid)) is None


@pytest.mark.parametrize(
    "garbage",
    [b"", b"null", b"[]", b"{}", b'"pid"', b"\xff\xfe\x00", b"{" * 100_000, b"[" * 100_000, b'{"pid": 1}', b"1" * 5000],
)
def test_garbage_in_the_file_is_no_holder(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(garbage)
    assert lock.holder(tmp_path / ".lock") is None
    (tmp_path / "folder").mkdir()
    assert lock.holder(tmp_path / "folder") is None
