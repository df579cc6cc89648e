"""Embedders give vectors of length 1, and each text is computed once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agentlab.engines import hub
from memory import CachedEmbedder, Database, HashingEmbedder, SentenceTransformerEmbedder, errors


class Counting(HashingEmbedder):
    """A hashing embedder that notes which texts it was asked for."""

    def __init__(self, dimensions: int = 32):
        super().__init__(dimensions)
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return super().embed(texts)


def test_hashed_vectors_have_length_one_and_liken_texts_that_share_words() -> None:
    vectors = HashingEmbedder(128).embed(["the coin is in the kitchen", "a coin in the kitchen", "open door", "", "?!"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_hashed_vectors_are_the_same_in_every_process() -> None:
    code = "from memory import HashingEmbedder; print(HashingEmbedder(16).embed(['the coin']).tobytes().hex())"
    root = Path(__file__).resolve().parents[3]
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root, check=True,
            capture_output=True, text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert made == {HashingEmbedder(16).embed(["the coin"]).tobytes().hex()}


def test_a_text_is_computed_once_even_by_another_process(database: Database, path: Path) -> None:
    first = Counting()
    vectors = CachedEmbedder(first, database).embed(["a coin", "a door", "a coin"])
    assert first.asked == ["a coin", "a door"]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    second = Counting()
    with Database(path) as other:
        np.testing.assert_array_equal(CachedEmbedder(second, other).embed(["a door"])[0], vectors[1])
    assert second.asked == []


def test_another_model_computes_for_itself(database: Database) -> None:
    CachedEmbedder(Counting(32), database).embed(["a coin"])
    other = Counting(48)
    assert CachedEmbedder(other, database).embed(["a coin"]).shape == (1, 48)
    assert other.asked == ["a coin"]


def test_a_query_is_remembered_for_a_while_but_not_kept(database: Database) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, database, queries=2)
    for query in ("one", "two", "one", "three", "one", "two"):
        cached.embed_query(query)
    assert inner.asked == ["one", "two", "three", "two"]
    assert database.connection.execute("SELECT count(*) FROM vectors") == [(0,)]


def test_a_query_that_is_a_kept_text_is_not_computed(database: Database) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, database)
    (vector,) = cached.embed(["a coin"])
    np.testing.assert_array_equal(cached.embed_query("a coin"), vector)
    assert inner.asked == ["a coin"]


def test_long_work_reports_its_progress_and_survives_a_failure_half_way(database: Database) -> None:
    class Failing(Counting):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            if len(self.asked) >= 256:
                raise RuntimeError("out of memory")
            return super().embed(texts)

    texts = [f"text {number}" for number in range(600)]
    with pytest.raises(RuntimeError):
        CachedEmbedder(Failing(), database).embed(texts)
    progress: list[tuple[int, int]] = []
    again = Counting()
    CachedEmbedder(again, database).embed(texts, progress=lambda done, total: progress.append((done, total)))
    assert progress == [(256, 344), (344, 344)]
    assert len(again.asked) == 344


def test_a_reader_computes_without_keeping(database: Database, path: Path) -> None:
    with Database(path, readonly=True) as reader:
        assert CachedEmbedder(Counting(), reader).embed(["a coin"]).shape == (1, 32)
    assert database.connection.execute("SELECT count(*) FROM vectors") == [(0,)]


def test_vectors_of_a_wrong_shape_are_refused(database: Database) -> None:
    class Wrong(HashingEmbedder):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed(texts)[:, :3]

    with pytest.raises(errors.WrongVectors, match=r"\(1, 3\).*must give \(1, 8\)"):
        CachedEmbedder(Wrong(8), database).embed(["a coin"])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.EmbedderUnavailable, match=r"modules\.json is not there"):
        SentenceTransformerEmbedder(tmp_path)


def test_a_model_that_cannot_be_loaded_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("not json")
    embedder = SentenceTransformerEmbedder(tmp_path)
    with pytest.raises(errors.EmbedderUnavailable, match="cannot be loaded") as refused:
        embedder.embed(["a coin"])
    assert "\n" not in str(refused.value)


def test_without_its_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(errors.MissingDependency, match="pip install sentence-transformers"):
        SentenceTransformerEmbedder(tmp_path).embed(["a coin"])


def test_dimensions_are_read_without_loading_the_model(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config.json").write_text('{"hidden_size": 384}')
    embedder = SentenceTransformerEmbedder(tmp_path, "mini")
    assert (embedder.model_id, embedder.dimensions) == ("mini", 384)
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.weights
def test_the_real_model_likens_meanings() -> None:
    embedder = SentenceTransformerEmbedder(hub.resolve("all-MiniLM-L6-v2"))
    near, query, far = embedder.embed(["The coin lies in the kitchen.", "where is the money?", "Dogs bark at night."])
    assert embedder.dimensions == len(near) == 384
    np.testing.assert_allclose(near @ near, 1, rtol=1e-5)
    assert query @ near > query @ far + 0.1
