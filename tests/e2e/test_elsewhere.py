"""A round whose training happens where only torch, transformers, peft and pydantic are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from agentlab import Lab, RoundConfig
from agentlab.cli import app
from agentlab.rounds import TrainingConfig, export_round
from trainers.data.selection import SelectionConfig
from trainers.gate.gate import GateConfig
from trainers.training.canary import Canary

pytestmark = pytest.mark.slow

INSTALLED = ("torch", "transformers", "peft", "pydantic")
ROUND = RoundConfig(
    envs=["toy/doors?colours=2,rooms=1,step_limit=4"],
    seeds=12,
    gate_seeds=14,
    held_out_seeds=5,
    selection=SelectionConfig(cap_per_task=1),
    training=TrainingConfig(learning_rate=5e-3, epochs=4),
    gate=GateConfig(min_pairs=10),
)


def with_their_needs(names: tuple[str, ...]) -> set[str]:
    """Distributions and all that they require, as pip would install them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append(need.name)
    return found


def only_packages(folder: Path, names: tuple[str, ...]) -> Path:
    """A folder to import from that has these distributions and nothing else: links to where they are installed."""
    folder.mkdir()
    for name in with_their_needs(names):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


def there(folder: Path, packages: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` as on a machine that has nothing but these packages, and the code in the folder."""
    # Without site (-S) nothing is seen of what this Python has installed.
    return subprocess.run(
        [sys.executable, "-S", *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"code:{packages}", "OMP_NUM_THREADS": "1"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_export_trains_with_four_packages_comes_back_is_gated_and_serves(
    tmp_path: Path, tiny_model: Path, open_at: Callable[..., Lab]
) -> None:
    with open_at(tmp_path / "lab") as lab:
        export_round(lab, ROUND, tmp_path / "out")
    packages = only_packages(tmp_path / "packages", INSTALLED)
    away = tmp_path / "another" / "job"
    shutil.copytree(tmp_path / "out", away)
    shutil.rmtree(tmp_path / "out")
    base = shutil.copytree(tiny_model, tmp_path / "another" / "base")

    for package in ("sqlite_utils", "faiss", "langgraph", "agentlab"):
        assert f"No module named '{package}'" in there(away, packages, "-c", f"import {package}").stderr
    lost = there(away, packages, "-m", "trainers.job", ".")
    assert lost.returncode == 2 and "give its folder with --base" in lost.stderr
    trained = there(away, packages, "-m", "trainers.job", ".", "--base", str(base))
    assert trained.returncode == 0, trained.stderr
    assert "steps in" in trained.stdout
    ran = there(away, packages, "-c", "import trainers, memory; print(trainers.__file__, memory.__file__)")
    assert ran.stdout.split() == [f"{away}/code/{name}/__init__.py" for name in ("trainers", "memory")]

    shutil.copytree(away, tmp_path / "back", ignore=shutil.ignore_patterns("code"))
    result = CliRunner().invoke(app, ["distill", "--import", str(tmp_path / "back"), "--lab", str(tmp_path / "lab")])
    assert result.exit_code == 0, result.output
    assert "Promoted: it serves now." in result.stdout
    assert "The adapter scores here as it did where it was trained." in result.output
    with Lab.open(tmp_path / "lab") as lab:
        record = lab.adapters.get(str(lab.serving()))
        assert record.lineage.round == "round-1" and record.gate is not None and record.gate.promote
        folder = lab.adapters.folder_of(record.id, record.fingerprint)
        assert Canary.load(folder / "canary.json").discriminates
        assert "**promoted**" in (folder / "README.md").read_text()
