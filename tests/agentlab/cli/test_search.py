from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.cli.search import search
from agentlab.lab import Lab
from agentlab.search.config import METHODS
from agentlab.workspace.config import LabConfig

RUNNER = CliRunner()
Search = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Search:
    folder = tmp_path / "lab"
    Lab.open(folder, create=True, config=LabConfig(embedder="hashing")).close()
    return lambda *arguments: RUNNER.invoke(app, ["search", *arguments, "--lab", str(folder)])


def test_a_search_tells_what_was_won_and_what_it_cost(run: Search) -> None:
    result = run("toy/doors", "--seeds", "0-4", "--budget", "300")
    assert result.exit_code == 0, result.output
    assert "5/5 [0.57, 1.00]" in result.output
    assert "games won in 1000 steps" in result.output


def test_as_json_it_is_what_was_found_task_by_task(run: Search) -> None:
    found = json.loads(run("toy/doors", "--seeds", "0-1", "--method", "deepening", "--json").stdout)
    assert [item["task"] for item in found] == ["toy/doors:train:0", "toy/doors:train:1"]
    assert all(item["won"] and item["cost"]["steps"] <= 400 for item in found)


def test_a_budget_that_is_too_small_wins_nothing(run: Search) -> None:
    result = run("toy/doors", "--seeds", "0-1", "--budget", "2")
    assert "0/2 [0.00, 0.66]" in result.output


def test_an_unknown_method_is_refused(run: Search) -> None:
    assert run("toy/doors", "--method", "dowsing").exit_code == 2


def test_it_offers_every_method() -> None:
    assert get_args(get_type_hints(search)["method"]) == METHODS
