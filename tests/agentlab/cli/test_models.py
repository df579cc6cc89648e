from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentlab.cli import app

RUNNER = CliRunner()
NAME = "SmolLM2-135M-Instruct"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, so that no test fetches or finds a model."""
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path, name: str, *, weights: bool = True) -> Path:
    folder = cache / "models" / name
    folder.mkdir(parents=True)
    (folder / "ready").write_text("ready\n")
    if weights:
        (folder / "model.safetensors").write_bytes(bytes(2**20))
    return folder


def test_known_models_are_listed_with_what_is_here(cache: Path) -> None:
    folder = put(cache, NAME)
    rows = {row["name"]: row for row in json.loads(RUNNER.invoke(app, ["models", "--json"]).stdout)}
    assert (rows[NAME]["cached"], rows[NAME]["path"]) == (True, str(folder))
    assert rows[NAME]["mib"] == pytest.approx(1.0, abs=0.01)
    assert rows["all-MiniLM-L6-v2"]["cached"] is False
    assert NAME in RUNNER.invoke(app, ["models"]).stdout


def test_fetching_one_that_is_here_says_where(cache: Path) -> None:
    folder = put(cache, NAME)
    result = RUNNER.invoke(app, ["models", "--fetch", NAME, "--json"])
    assert result.exit_code == 0
    assert f"{NAME} is at {folder}" in result.stderr
    assert json.loads(result.stdout)


def test_an_unknown_model_is_one_line_with_the_nearest(cache: Path) -> None:
    result = RUNNER.invoke(app, ["models", "--fetch", "SmolLM-135M"])
    assert result.exit_code == 2
    assert f"did you mean '{NAME}'?" in result.stderr
    assert result.stderr.count("\n") == 1
