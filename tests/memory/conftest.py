"""What the tests of the memory share: a database in an empty folder, and makers of small records."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memory import Advice, Database, Episode, Evidence, HashingEmbedder, Reflection, ReflectionMemory, Step
from memory.store import schema


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


@pytest.fixture
def keep() -> Callable[[Database, list[Reflection]], None]:
    """Keeps reflections as they are: equal texts as several items, as earlier versions of the tool left them."""

    def kept(database: Database, reflections: list[Reflection]) -> None:
        for item in reflections:
            database.reflections.put(item)

    return kept


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


@pytest.fixture
def older(path: Path) -> Callable[..., Any]:
    """Opens the file as the program was at some version of the tables, with these reflections in it."""

    @contextmanager
    def opened(version: int, *reflections: Reflection) -> Iterator[Database]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
            patch.setattr(schema, "VERSION", version)
            with Database(path) as database:
                columns = {row[1] for row in database.connection.execute("PRAGMA table_info(reflections)")}
                for item in reflections:
                    row = {
                        name: value for name, value in item.model_dump().items() if name in columns - {"merged_into"}
                    }
                    rest = {"changed": 1, "stamp": 1, "payload": zlib.compress(item.model_dump_json().encode())}
                    database.connection.tables.table("reflections").insert(row | rest | {"tags": json.dumps(item.tags)})
                yield database

    return opened
