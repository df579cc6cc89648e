"""Every benchmark starts as the documents have it: as a script, beside one that is called like a package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
FOLDER = Path(ROOT) / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "ArgumentParser" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_starts_as_a_script(name: str, in_a_process: Callable[..., tuple[int, str]]) -> None:
    begin = f"import runpy\nsys.path[:] = [{str(FOLDER)!r}, *(one for one in sys.path if one not in ('', {ROOT!r}))]\n"
    status, said = in_a_process(f"{begin}runpy.run_path({str(FOLDER / name)!r}, run_name='__main__')", "--help")
    assert status == 0 and said.startswith("usage:"), said


def test_every_attack_on_a_memory_is_tried(in_a_process: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    begin = f"import runpy, os\nos.chdir({str(tmp_path)!r})\nimport sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
    run = f"runpy.run_path({str(FOLDER / 'poisoning.py')!r}, run_name='__main__')"
    _, said = in_a_process(begin + run, "--env", "toy/doors?rooms=1", "--games", "2", "--runs", "1")
    rows = [line.split(" | ")[1] for line in said.splitlines() if line.startswith("| `")]
    assert len(rows) == 14 and len(set(rows)) == 8, said


@pytest.mark.slow
def test_workers_are_compared_with_threads_to_the_end(
    in_a_process: Callable[..., tuple[int, str]], tiny_model: Path
) -> None:
    begin = f"import runpy, sys\nsys.path.insert(0, {str(FOLDER)!r})\n"
    run = f"runpy.run_path({str(FOLDER / 'workers.py')!r}, run_name='__main__')"
    given = ["--env", "toy/doors?step_limit=3", "--episodes", "4", "--workers", "1", "--model", str(tiny_model)]
    _, said = in_a_process(begin + run, *given)
    assert "| 1 |" in said and "Traceback" not in said, said
    # How fast a tiny model is says nothing; that each does the same must hold.
    assert "other actions" not in said and "log-probabilities differ" not in said, said


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


def test_all_that_the_documents_name_are_there() -> None:
    said = (FOLDER.parent / "docs" / "measured.md").read_text(encoding="utf-8")
    assert {"credit.py", "memory.py", "overhead.py", "scoring.py", "training.py"} <= set(SCRIPTS)
    assert all(f"benchmarks/{name}" in said for name in SCRIPTS if name != "index.py")
