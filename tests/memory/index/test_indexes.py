"""The indexes of texts and states hold what the database says, once it is committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memory import Advice, CachedEmbedder, Database, HashingEmbedder, Reflection
from memory.index.indexes import Indexes

Maker = Callable[..., Reflection]


@pytest.fixture
def opened(database: Database, tmp_path: Path, notes: list[str]) -> Callable[..., Indexes]:
    def made(used: Database = database, **options: Callable[[int, int], None]) -> Indexes:
        embedder = CachedEmbedder(HashingEmbedder(16), used)
        return Indexes(used, embedder, tmp_path / "texts.faiss", notify=notes.append, **options)

    return made


def test_each_follows_its_own_texts_and_is_saved_beside_the_other(
    opened: Callable[..., Indexes], database: Database, tmp_path: Path, reflection: Maker, advice: Callable[..., Advice]
) -> None:
    database.reflections.put(reflection("a", advice=[advice("one"), advice("two"), advice("lost", value=0.0)]))
    seen: list[tuple[int, int]] = []
    indexes = opened(progress=lambda done, total: seen.append((done, total)))
    indexes.follow_texts()
    assert (len(indexes.texts), len(indexes.states)) == (1, 0)
    indexes.follow_states()
    assert len(indexes.states) == 2 and seen[-1] == (2, 2)
    indexes.save()
    assert {file.name for file in tmp_path.glob("*.faiss")} == {"texts.faiss", "texts.states.faiss"}
    again = opened()
    again.follow_texts()
    again.follow_states()
    assert (len(again.texts), len(again.states)) == (1, 2)


def test_what_may_still_be_taken_back_is_not_followed(
    opened: Callable[..., Indexes], database: Database, reflection: Maker
) -> None:
    indexes = opened()
    with pytest.raises(RuntimeError), database.transaction():
        database.reflections.put(reflection("a"))
        indexes.follow_texts()
        assert len(indexes.texts) == 0
        raise RuntimeError("taken back")
    indexes.follow_texts()
    assert len(indexes.texts) == 0


def test_a_file_that_is_gone_is_noticed_only_if_it_was_ever_made(
    opened: Callable[..., Indexes], database: Database, tmp_path: Path, reflection: Maker, notes: list[str]
) -> None:
    opened().follow_texts()
    database.reflections.put(reflection("a"))
    opened().follow_texts()
    assert notes == [], "it was never written, and nobody lost it"
    indexes = opened()
    indexes.follow_texts()
    indexes.save()
    (tmp_path / "texts.faiss").unlink()
    notes.clear()
    opened().follow_texts()
    assert len(notes) == 1 and "texts.faiss" in notes[0]


def test_a_reader_follows_without_writing(
    opened: Callable[..., Indexes], database: Database, path: Path, tmp_path: Path, reflection: Maker
) -> None:
    database.reflections.put(reflection("a"))
    with Database(path, readonly=True) as reader:
        indexes = opened(reader)
        indexes.follow_texts()
        assert len(indexes.texts) == 1
        indexes.save()
    assert list(tmp_path.glob("*.faiss")) == []
