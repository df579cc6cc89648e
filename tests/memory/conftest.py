"""What the tests of the memory share: a database in an empty folder, and makers of small records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory import Advice, Database, Episode, Evidence, HashingEmbedder, Reflection, ReflectionMemory, Step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path) as database:
        yield database


@pytest.fixture
def notes() -> list[str]:
    """What the memory told its user."""
    return []


@pytest.fixture
def open_memory(database: Database, tmp_path: Path, notes: list[str]) -> Callable[..., ReflectionMemory]:
    """Opens the memory of the database, as a fresh process would."""

    def opened(embedder: Any = None, **options: Any) -> ReflectionMemory:
        options = {"notify": notes.append, **options}
        return ReflectionMemory(database, embedder or HashingEmbedder(64), tmp_path / "texts.faiss", **options)

    return opened


@pytest.fixture
def memory(open_memory: Callable[..., ReflectionMemory]) -> ReflectionMemory:
    return open_memory()


def step(index: int, action: str = "go north") -> Step:
    return Step(
        index=index,
        observation=f"Room {index}.",
        state=f"Room {index}. You carry nothing.",
        admissible=["go north", "go south"],
        action=action,
        result=f"Room {index + 1}.",
        next_state=f"Room {index + 1}. You carry nothing.",
        scores=[-0.5, -1.25],
    )


@pytest.fixture
def episode() -> Callable[..., Episode]:
    def made(id: str = "ep-1", **values: Any) -> Episode:
        defaults: dict[str, Any] = {"run": "run-1", "env": "twx/coin", "split": "train", "seed": 3, "goal": "Find it."}
        return Episode(id=id, **{**defaults, "steps": [step(0), step(1, "go south")], **values})

    return made


@pytest.fixture
def reflection() -> Callable[..., Reflection]:
    def made(id: str = "rf-1", text: str = "Coins are found in the kitchen.", **values: Any) -> Reflection:
        defaults: dict[str, Any] = {"kind": "grounded", "env": "twx/coin", "task": "twx/coin:train:3", "run": "run-1"}
        defaults["evidence"] = [Evidence(episode="ep-1", steps=[1])]
        return Reflection(id=id, text=text, **{**defaults, **values})

    return made


@pytest.fixture
def advice() -> Callable[..., Advice]:
    def made(state: str = "Room 0. You carry nothing.", action: str = "go north", value: float = 0.5) -> Advice:
        return Advice(state=state, action=action, visits=1, value=value)

    return made
