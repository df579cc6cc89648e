"""Every benchmark starts as the README has it: as a script, beside one that is called like a package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


# What takes long to import is imported once, and nothing of ours: each script starts in a copy of that process.
START = """
import json, os, runpy, sys
import faiss, peft, torch, transformers

def started(script):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(write, 1), os.dup2(write, 2), os.close(read), os.close(write)
        sys.path[0], sys.argv = os.path.dirname(script), [script, "--help"]
        runpy.run_path(script, run_name="__main__")
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        return said.read(), os.waitpid(child, 0)[1]

print(json.dumps([started(script) for script in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def started() -> dict[str, tuple[str, int]]:
    """What each script said to `--help`, and how it ended."""
    scripts = [str(FOLDER / name) for name in SCRIPTS]
    done = subprocess.run(
        [sys.executable, "-c", START, *scripts], capture_output=True, text=True, env=as_installed(), check=True
    )
    return dict(zip(SCRIPTS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_as_a_script(name: str, started: dict[str, tuple[str, int]]) -> None:
    said, status = started[name]
    assert status == 0 and said.startswith("usage:"), said


def as_installed() -> dict[str, str]:
    """The environment of somebody who has the package installed, and no path of its own set."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_a_benchmark_finds_the_package_and_not_the_benchmark_of_its_name(tmp_path: Path) -> None:
    """Wherever it is called from, and whenever it imports it."""
    script = f"import sys; sys.path[0] = {str(FOLDER)!r}; import machine, memory; print(memory.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=as_installed(), cwd=tmp_path
    )
    assert Path(done.stdout.strip()) == FOLDER.parent / "memory" / "__init__.py", done.stderr


def test_all_that_the_readme_names_are_there() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert {"credit.py", "memory.py", "overhead.py", "scoring.py", "training.py"} <= set(SCRIPTS)
    assert all(f"benchmarks/{name}" in readme for name in SCRIPTS if name != "index.py")
