"""What trained an adapter is known by the code itself, wherever it ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainers import job, transport


def told(root: Path) -> str:
    """What the code that lies in `root` says of itself."""
    command = [sys.executable, "-c", "from trainers.training import code; print(code.digest())"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_a_job_names_the_code_that_ran_here_or_where_it_was_sent(trained: Path, tmp_path: Path) -> None:
    ran = job.Report.model_validate_json((trained / "report.json").read_bytes()).versions["trainers"]
    transport.export(trained, tmp_path / "sent")
    there = tmp_path / "sent" / transport.CODE
    assert told(there) == ran
    with open(there / "trainers" / "training" / "batches.py", "a", encoding="utf-8") as stream:
        stream.write("\n# changed\n")
    assert told(there) != ran


@pytest.mark.parametrize("change", ["nothing", "a file more", "another name", "no source"])
def test_any_change_of_the_source_is_another_code(tmp_path: Path, change: str) -> None:
    for package in ("memory", "trainers"):
        place = Path(__file__).parents[3] / package
        shutil.copytree(place, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = told(tmp_path)
    if change == "a file more":
        (tmp_path / "memory" / "more.py").write_text("")
    elif change == "another name":
        room = tmp_path / "trainers" / "training"
        (room / "baseline.py").rename(room / "baselines.py")
    elif change == "no source":
        (tmp_path / "trainers" / "notes.txt").write_text("nothing that runs")
    assert (told(tmp_path) == before) is (change in ("nothing", "no source"))
