"""What is kept of earlier reading is never older than what is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memory import Database, HashingEmbedder, Reflection, ReflectionMemory
from memory.kept import Kept

Maker = Callable[..., Reflection]


def test_a_shelf_is_the_same_until_something_is_written(database: Database, reflection: Maker) -> None:
    kept = Kept(database)
    shelf = kept.shelves().shelf("rows", 10)
    shelf[1] = "one"
    assert kept.shelves().shelf("rows", 10) == {1: "one"}
    assert kept.shelves().shelf("words", 10) == {}
    database.put_reflection(reflection("new"))
    assert kept.shelves().shelf("rows", 10) == {}


def test_a_full_shelf_is_emptied(database: Database) -> None:
    kept = Kept(database)
    kept.shelves().shelf("rows", 2).update({1: 1, 2: 2, 3: 3})
    assert kept.shelves().shelf("rows", 2) == {}


def test_nothing_is_kept_of_what_may_be_taken_back(database: Database, reflection: Maker) -> None:
    kept = Kept(database)
    with pytest.raises(RuntimeError), database.transaction():
        database.put_reflection(reflection("never"))
        kept.shelves().shelf("rows", 10)["of the transaction"] = 1
        raise RuntimeError("rolled back")
    database.put_reflection(reflection("instead"))  # it gets the mark that the other had
    assert kept.shelves().shelf("rows", 10) == {}


def test_a_reader_sees_at_once_what_another_process_changed(tmp_path: Path, reflection: Maker) -> None:
    writer = ReflectionMemory(Database(tmp_path / "lab.db"), HashingEmbedder(16), tmp_path / "texts.faiss")
    ids = writer.remember([reflection(f"note {n}", text=f"door {n}") for n in range(3)])
    reader = ReflectionMemory(
        Database(tmp_path / "lab.db", readonly=True), HashingEmbedder(16), tmp_path / "texts.faiss"
    )
    assert len(reader.search("door", k=5)) == 3
    writer.forget(ids[0])
    writer.edit(ids[1], "a window")
    assert {hit.reflection.text for hit in reader.search("door", k=5)} == {"a window", "door 2"}
    assert [hit.reflection.id for hit in reader.search("window", k=5) if hit.parts["bm25"]] == [ids[1]]
