"""`agentlab export`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig

RUNNER = CliRunner()


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab in which chance played."""
    folder = tmp_path / "lab"
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing"), progress=False) as opened:
        opened.run("toy/doors", arm="random", seeds=range(3), trials=2, name="first")
        opened.run("toy/doors", arm="random", seeds=range(3, 5), trials=1, name="second")
    return folder


def export(lab: Path, *words: str) -> Result:
    return RUNNER.invoke(app, ["export", *words, "--lab", str(lab)])


def test_a_data_set_is_written_beside_a_writer_and_what_is_in_it_is_told(lab: Path, tmp_path: Path) -> None:
    with Lab.open(lab):
        result = export(lab, str(tmp_path / "data"))
    assert result.exit_code == 0, result.output
    assert "episodes" in result.stdout and f"This is in {tmp_path / 'data'}" in result.stdout
    assert parquet.read_metadata(tmp_path / "data" / "episodes" / "train.parquet").num_rows >= 5


def test_the_filters_are_those_of_the_listing(lab: Path, tmp_path: Path) -> None:
    assert export(lab, str(tmp_path / "data"), "--run", "second", "--env", "toy/doors").exit_code == 0
    rows = parquet.read_table(tmp_path / "data" / "episodes" / "train.parquet").to_pylist()
    assert {(row["run"], row["seed"]) for row in rows} == {("second", 3), ("second", 4)}


def test_texts_go_through_the_function_that_is_named(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "my_rules_here.py").write_text("def redact(text):\n    return text.replace('note', 'XXXX')\n")
    assert export(lab, str(tmp_path / "data"), "--redact", "my_rules_here:redact").exit_code == 0
    said = str(parquet.read_table(tmp_path / "data" / "episodes" / "train.parquet").to_pylist())
    assert "read XXXX" in said and "read note" not in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--redact", "json:nothing"], "cannot be used"),
        (["--redact", "json:loads"], "raised an error of its own"),
        (["--redact", "builtins:len"], "gave int"),
        (["--arm", "none"], "nothing was written"),
        (["--adapter", "x"], "no adapter has the id"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(
    lab: Path, tmp_path: Path, words: list[str], why: str
) -> None:
    result = export(lab, str(tmp_path / "data"), *words)
    assert result.exit_code == 2 and why in result.stderr and result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]
