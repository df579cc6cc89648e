"""Every benchmark starts as the README has it: as a script, beside one that is called like a package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_as_a_script(name: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run([sys.executable, str(FOLDER / name), "--help"], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stdout.startswith("usage:"), done.stderr


def test_all_that_the_readme_names_are_there() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert {"credit.py", "memory.py", "overhead.py", "scoring.py", "training.py"} <= set(SCRIPTS)
    assert all(f"benchmarks/{name}" in readme for name in SCRIPTS if name != "index.py")
