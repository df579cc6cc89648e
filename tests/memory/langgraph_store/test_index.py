from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from memory import CachedEmbedder, Database, HashingEmbedder, SqliteFaissStore, errors
from memory.langgraph_store.index import ItemIndex

WORDS = {"red": [3.0, 4.0], "blue": [0.0, 2.0], "": [0.0, 0.0]}


class TwoWays(Embeddings):
    """A model that sees questions in another way than documents, as many do."""

    model = "two-ways-1"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [WORDS[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return WORDS[text.removesuffix("?")]


async def later(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return [WORDS[text.removesuffix("?")] for text in texts]


def made(database: Database, tmp_path: Path, **config: Any) -> ItemIndex:
    return ItemIndex(database, tmp_path / "x.faiss", {"dims": 2, **config})


def test_vectors_are_scaled_to_length_one_and_nought_stays_nought(database: Database, tmp_path: Path) -> None:
    index = made(database, tmp_path, embed=TwoWays())
    vectors = np.stack(list(index.documents(["red", "blue", ""]).values()))
    assert vectors.tolist() == [pytest.approx([0.6, 0.8]), [0, 1], [0, 0]]
    assert index.queries(["red?"])["red?"].tolist() == pytest.approx([0.6, 0.8])


def test_vectors_are_kept_under_a_name_that_tells_the_model(database: Database, tmp_path: Path) -> None:
    names = [
        made(database, tmp_path, embed=embed).model_id
        for embed in (
            TwoWays(),
            later,
            lambda texts: [],
            HashingEmbedder(2),
            CachedEmbedder(HashingEmbedder(2), database),
        )
    ]
    assert names[0] == f"{__name__}.TwoWays:two-ways-1:2"
    assert names[1] == f"{__name__}.later:2"
    assert names[2].endswith("<lambda>:2")
    assert names[3:] == ["hashing-2", "hashing-2"]
    named = ItemIndex(database, tmp_path / "x.faiss", {"dims": 2, "embed": later}, model_id="mine")
    assert named.model_id == "mine"


@pytest.mark.parametrize(("config", "why"), [({}, "embed"), ({"embed": TwoWays()}, "dims")])
def test_an_index_that_cannot_be_is_refused(database: Database, tmp_path: Path, config: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ItemIndex(database, tmp_path / "x.faiss", config)


def test_an_embedder_that_gives_too_few_vectors_is_refused(database: Database, tmp_path: Path) -> None:
    index = made(database, tmp_path, embed=lambda texts: [[1.0, 0.0]])
    with pytest.raises(errors.WrongVectors, match="for 2 texts"):
        index.documents(["red", "blue"])


def test_texts_are_taken_from_fields_each_once(database: Database, tmp_path: Path) -> None:
    index = made(database, tmp_path, embed=TwoWays(), fields=["a", "b[*].c"])
    value = {"a": "x", "b": [{"c": "y"}, {"c": "x"}, {"d": "z"}], "n": None}
    assert index.texts(value) == ["x", "y"]
    assert index.texts(value, ["b[-1].d", "n", "missing"]) == ["z"]
    assert index.texts(value, False) == index.texts(value, []) == []
    assert index.texts({"ü": [1]}, ["$"]) == ['{"ü": [1]}']
    assert made(database, tmp_path, embed=TwoWays()).texts({"a": 1}) == ['{"a": 1}']


def test_an_embedder_that_only_works_asynchronously_serves_asynchronous_calls(path: Path) -> None:
    with SqliteFaissStore.open(path, index={"dims": 2, "embed": later, "fields": ["text"]}) as store:

        async def used() -> Any:
            await store.aput(("a",), "k", {"text": "red"})
            await store.aput(("a",), "l", {"text": "blue"})
            return await store.asearch(("a",), query="red?")

        assert [(item.key, item.score) for item in asyncio.run(used())] == [
            ("k", pytest.approx(1)),
            ("l", pytest.approx(0.8)),
        ]
        with pytest.raises(ValueError, match="async"):
            store.put(("a",), "m", {"text": "blue?"})


def test_questions_are_embedded_as_questions(path: Path) -> None:
    with SqliteFaissStore.open(path, index={"dims": 2, "embed": TwoWays(), "fields": ["text"]}) as store:
        store.put(("a",), "k", {"text": "red"})
        store.put(("a",), "empty", {"text": ""})
        found = store.search(("a",), query="red?")
    assert [(item.key, item.score) for item in found] == [("k", pytest.approx(1)), ("empty", 0.0)]
