"""A part of `tests.e2e.kills`: operations that are killed, and done again, end with the tables of unbroken ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kills_tables import difference

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def trials(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    """What the program counted, a trial each."""
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.e2e.kills", "--log", str(log), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert log.exists(), done.stderr[-3000:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert done.returncode == int(any(line["differs"] or line["lost"] for line in lines)), done.stderr[-3000:]
    return lines


def wrong(found: list[dict[str, Any]]) -> list[Any]:
    """The trials in which something was lost, or is another one than without a kill."""
    return [(one["operation"], one["lost"], one["differs"]) for one in found if one["lost"] or one["differs"]]


def may_mount() -> bool:
    """Whether this machine lets us mount a small disk."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_what_was_acknowledged_is_there_after_a_kill_and_the_same_command_leaves_the_same(tmp_path: Path) -> None:
    found = trials(
        tmp_path, "--kills", "10", "--seed", "5", "--only", "import,inbox,purge", "--condition", "kill,torn,clock"
    )  # fmt: skip
    assert sum(line["kills"] for line in found) >= 10
    assert {line["operation"] for line in found} == {"import", "inbox", "purge"}
    assert wrong(found) == []


@pytest.mark.skipif(not may_mount(), reason="nobody may mount a small disk here")
def test_a_full_disk_and_a_read_only_folder_are_said_in_a_line_and_cost_nothing(tmp_path: Path) -> None:
    found = trials(
        tmp_path, "--kills", "8", "--seed", "5", "--only", "import,inbox", "--condition", "disk,read-only"
    )  # fmt: skip
    assert any("disk is full" in line["refused"] or "No space" in line["refused"] for line in found)
    assert all("ead-only" in line["refused"] for line in found if line["condition"] == "read-only")
    assert wrong(found) == []


def test_a_row_that_is_missing_or_another_one_is_a_difference() -> None:
    meant = {"episodes": ["a", "b"], "files": ["x"]}
    assert difference(meant, {"episodes": ["a", "b"], "files": ["x"]}) == ""
    assert "episodes" in difference(meant, {"episodes": ["a"], "files": ["x"]})
    assert "episodes" in difference(meant, {"episodes": ["a", "c"], "files": ["x"]})
    assert "files" in difference(meant, {"episodes": ["a", "b"]})
