"""What the tests of data sets share: a lab with wins and losses of every kind, and how its export is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import parquet

from agentlab.lab import Lab
from memory.records import Episode, Step

Read = Callable[..., list[dict[str, Any]]]
"""Gives the rows of a config's split."""


@pytest.fixture
def play(step: Callable[..., Step], lived: Callable[..., Episode]) -> Callable[..., Episode]:
    """Makes an episode that does these actions, each behind an observation that names how one came there."""

    def made(id: str, *actions: str, won: bool = False, **values: Any) -> Episode:
        steps, path = [], "Start."
        for index, action in enumerate(actions):
            after = f"{path} After {action}."
            steps.append(
                step(index, action, observation=path, result=after, admissible=["go east", "go west", "take coin"])
            )
            path = after
        ended: dict[str, Any] = {"status": "won", "score": 1.0} if won else {"status": "lost", "score": 0.0}
        return lived(*steps, **{"id": id, **ended, **values})

    return made


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    """An empty lab."""
    return open_lab()


def rows_of(folder: Path, config: str, split: str = "train") -> list[dict[str, Any]]:
    """The rows of a split as its card leads to them; none where it names none."""
    head = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    files = {(one["config_name"], file["split"]): file["path"] for one in head["configs"] for file in one["data_files"]}
    if (config, split) not in files:
        return []
    rows: list[dict[str, Any]] = parquet.read_table(folder / files[config, split]).to_pylist()
    return rows


@pytest.fixture
def read() -> Read:
    """Reads the rows of a config's split, as the card in a folder says where they are."""
    return rows_of
