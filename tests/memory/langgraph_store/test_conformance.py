"""One suite over LangGraph's `InMemoryStore` and ours, called plainly and asynchronously: both behave the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from memory import HashingEmbedder, SqliteFaissStore

EMBEDDER = HashingEmbedder(32)


def index(**more: Any) -> dict[str, Any]:
    return {"dims": 32, "embed": lambda texts: EMBEDDER.embed(texts).tolist(), **more}


class Mended(InMemoryStore):
    """LangGraph's store without three slips of its own, of which its contract says nothing."""

    def _handle_list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        # It lists namespaces that were only looked into, or whose items are all deleted.
        for namespace in [namespace for namespace, items in self._data.items() if not items]:
            del self._data[namespace]
        return super()._handle_list_namespaces(op)

    def _extract_texts(self, put_ops: Any) -> Any:
        # It keeps the vectors of fields that an item's new value no longer has.
        for namespace, key in put_ops:
            self._vectors[namespace].pop(key, None)
        return super()._extract_texts(put_ops)

    def _insertinmem_store(self, to_embed: Any, embeddings: Any) -> None:
        # It raises where two items of a batch, or two fields of an item, have the same text.
        for vector, places in zip(embeddings, to_embed.values(), strict=True):
            for namespace, key, path in places:
                self._vectors[namespace][key][path] = vector


class Caller:
    """A store whose methods are called by their plain or by their asynchronous name."""

    def __init__(self, store: BaseStore, asynchronous: bool):
        self.store = store
        self.asynchronous = asynchronous

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self.asynchronous:
            return getattr(self.store, name)

        async def called(*args: Any, **options: Any) -> Any:
            return await getattr(self.store, f"a{name}")(*args, **options)

        return lambda *args, **options: asyncio.run(called(*args, **options))


Make = Callable[..., Caller]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with nothing in it, of which a copy is quicker than another one."""
    path = tmp_path_factory.mktemp("empty") / "lab.db"
    SqliteFaissStore.open(path).close()
    return path


@pytest.fixture(params=["theirs", "theirs, asynchronous", "ours", "ours, asynchronous"])
def make(request: pytest.FixtureRequest, tmp_path: Path, empty: Path) -> Iterator[Make]:
    """Makes a store of one of the two kinds, with a configuration of its index or without."""
    opened: list[SqliteFaissStore] = []

    def made(config: dict[str, Any] | None = None) -> Caller:
        if request.param.startswith("theirs"):
            store: BaseStore = Mended(index=config)  # type: ignore[arg-type]
        else:
            path = tmp_path / f"{len(opened)}.db"
            shutil.copy(empty, path)
            store = SqliteFaissStore.open(path, index=config)
            opened.append(store)
        return Caller(store, request.param.endswith("asynchronous"))

    yield made
    for store in opened:
        store.close()


def keys(found: list[SearchItem]) -> list[str]:
    return [item.key for item in found]


# Items


def test_what_was_put_is_got_until_it_is_deleted(make: Make) -> None:
    store = make()
    value = {"text": "Es ist spät", "n": 1, "deep": {"list": [1, None, {"x": True}]}, "half": 0.5}
    store.put(("user", "7"), "prefs", value)
    item = store.get(("user", "7"), "prefs")
    assert (item.namespace, item.key, item.value) == (("user", "7"), "prefs", value)
    assert item.created_at <= item.updated_at
    assert item.created_at.tzinfo is not None
    assert store.get(("user",), "prefs") is None
    assert store.get(("user", "7"), "other") is None
    store.delete(("user", "7"), "prefs")
    store.delete(("user", "7"), "prefs")
    assert store.get(("user", "7"), "prefs") is None
    assert store.search(()) == []


def test_a_second_put_replaces_the_value_and_moves_the_time(make: Make) -> None:
    store = make()
    store.put(("a",), "k", {"old": 1, "both": 1})
    first = store.get(("a",), "k")
    store.put(("a",), "k", {"both": 2})
    second = store.get(("a",), "k")
    assert second.value == {"both": 2}
    assert second.updated_at >= first.updated_at
    assert len(store.search(("a",))) == 1


def test_a_mapping_of_any_kind_is_a_value_and_any_key_is_text(make: Make) -> None:
    store = make(index())
    store.put(("a",), 7, UserDict({"text": "red door"}))
    assert store.get(("a",), "7").value == {"text": "red door"}
    assert store.search(("a",), query="red door")[0].key == "7"


def test_the_same_key_in_two_namespaces_is_two_items(make: Make) -> None:
    store = make()
    store.put(("a", "b"), "k", {"n": 1})
    store.put(("a", "c"), "k", {"n": 2})
    store.put(("A", "b"), "k", {"n": 3})
    assert [store.get(path, "k").value["n"] for path in (("a", "b"), ("a", "c"), ("A", "b"))] == [1, 2, 3]


@pytest.mark.parametrize("namespace", [(), ("langgraph", "x"), ("a", ""), ("a", "b.c"), ("a", "b\x00"), ("a", 1)])
def test_an_impossible_namespace_is_refused(make: Make, namespace: Any) -> None:
    with pytest.raises(InvalidNamespaceError):
        make().put(namespace, "k", {"n": 1})


@pytest.mark.parametrize("namespace", [("a", ""), ("a", "b.c"), ("a", 1)])
def test_an_impossible_namespace_is_refused_by_every_call(make: Make, namespace: Any) -> None:
    store = make()
    for call in (
        lambda: store.get(namespace, "k"),
        lambda: store.delete(namespace, "k"),
        lambda: store.search(namespace),
        lambda: store.list_namespaces(prefix=namespace),
        lambda: store.list_namespaces(suffix=namespace),
    ):
        with pytest.raises(InvalidNamespaceError):
            call()


def test_the_root_langgraph_is_only_closed_to_put_itself(make: Make) -> None:
    store = make()
    store.batch([PutOp(("langgraph", "x"), "k", {"n": 1})])
    assert store.get(("langgraph", "x"), "k").value == {"n": 1}
    store.put(("x", "langgraph"), "k", {"n": 2})
    assert len(store.search(())) == 2


# Batches


def test_results_come_in_the_order_of_the_operations_and_reads_see_what_was_before(make: Make) -> None:
    store = make()
    store.put(("a",), "old", {"n": 1})
    put, got, found, listed, gone, missing = store.batch(
        [
            PutOp(("b",), "new", {"n": 2}),
            GetOp(("a",), "old"),
            SearchOp(()),
            ListNamespacesOp(),
            PutOp(("a",), "old", None),
            GetOp(("b",), "new"),
        ]
    )
    assert (put, gone, missing) == (None, None, None)
    assert got.value == {"n": 1}
    assert keys(found) == ["old"]
    assert listed == [("a",)]
    assert store.list_namespaces() == [("b",)]


def test_of_several_writes_to_a_key_in_a_batch_the_last_counts(make: Make) -> None:
    store = make(index())
    twice = [PutOp(("a",), "k", {"text": text}) for text in ("red door", "blue door", "blue door")]
    assert store.batch([*twice, PutOp(("a",), "x", {"n": 1}), PutOp(("a",), "x", None)]) == [None] * 5
    assert [item.value for item in store.search(("a",), query="door")] == [{"text": "blue door"}]


def test_a_batch_may_be_an_iterator_and_may_be_empty(make: Make) -> None:
    store = make()
    assert store.batch(iter([PutOp(("a",), str(n), {"n": n}) for n in range(3)])) == [None] * 3
    assert store.batch([]) == []
    assert len(store.search(())) == 3


def test_an_unknown_operation_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="peration"):
        make().batch(["get"])


# Filters


ITEMS = {
    "red": {"color": "red", "price": 10, "sold": True, "size": {"w": 1, "h": 2}, "tags": ["a", "b"], "note": None},
    "green": {"color": "green", "price": 20.5, "sold": False, "size": {"w": 1, "h": 3}, "tags": ["a"], "note": "x"},
    "blue": {"color": "blue", "price": -3, "sold": False, "size": {"w": 2, "h": 2}, "tags": [], "note": "7"},
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "red green blue"),
        ({"color": "red"}, "red"),
        ({"color": "red", "price": 20.5}, ""),
        ({"color": "RED"}, ""),
        ({"sold": False}, "green blue"),
        ({"price": 10.0}, "red"),
        ({"note": None}, "red"),
        ({"missing": None}, "red green blue"),
        ({"missing": 1}, ""),
        ({"tags": ["a"]}, "green"),
        ({"tags": ["a", {"$ne": "c"}]}, "red"),
        ({"size": {"w": 1}}, "red green"),
        ({"size": {"w": 1, "h": {"$gt": 2}}}, "green"),
        ({"size": {}}, "red green blue"),
        ({"color": {}}, ""),
        ({"color": {"w": 1}}, ""),
        ({"color": {"$eq": "blue"}}, "blue"),
        ({"color": {"$ne": "blue"}}, "red green"),
        ({"size": {"$eq": {"w": 1, "h": 2}}}, "red"),
        ({"missing": {"$ne": 1}}, "red green blue"),
        ({"price": {"$gt": 10}}, "green"),
        ({"price": {"$gte": 10}}, "red green"),
        ({"price": {"$lt": 10}}, "blue"),
        ({"price": {"$lte": "10"}}, "red blue"),
        ({"price": {"$gt": -5, "$lt": 15}}, "red blue"),
        ({"price": {"$lt": float("inf")}}, "red green blue"),
        ({"price": {"$eq": float("nan")}}, ""),
        ({"color": "red' OR '1'='1"}, ""),
        ({"color') = 'red' OR ('1": "1"}, ""),
    ],
)
def test_a_filter_finds_what_fits_it(make: Make, wanted: dict[str, Any], found: str) -> None:
    store = make()
    for key, value in ITEMS.items():
        store.put(("shop",), key, value)
    assert set(keys(store.search(("shop",), filter=wanted))) == set(found.split())


def test_an_operator_that_there_is_not_is_refused(make: Make) -> None:
    store = make()
    store.put(("a",), "k", {"n": 1})
    with pytest.raises(ValueError, match=r"\$near"):
        store.search(("a",), filter={"n": {"$near": 1}})


# Namespaces


def test_a_search_is_bounded_by_whole_labels(make: Make) -> None:
    store = make()
    for path in (("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("a-", "b"), ("a/", "b"), ("A",), ("a_", "x"), ("%",)):
        store.put(path, "k", {"path": list(path)})
    below = {tuple(item.value["path"]) for item in store.search(("a",))}
    assert below == {("a",), ("a", "b"), ("a", "b", "c")}
    assert len(store.search((), limit=100)) == 9
    assert [item.namespace for item in store.search(("a_",))] == [("a_", "x")]
    assert [item.namespace for item in store.search(("%",))] == [("%",)]
    assert store.search(("b",)) == []


PATHS = [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({}, PATHS),
        ({"prefix": ("a", "b")}, PATHS[:4]),
        ({"prefix": ("a", "*", "f")}, [("a", "b", "f"), ("a", "c", "f")]),
        ({"prefix": ("*", "a")}, [("b", "a", "f")]),
        ({"prefix": ("a", "b", "c", "d")}, []),
        ({"prefix": ("A",)}, []),
        ({"suffix": ("f",)}, PATHS[3:]),
        ({"suffix": ("*", "f")}, PATHS[3:]),
        ({"suffix": ("b", "*", "e")}, [("a", "b", "d", "e")]),
        ({"suffix": ("x", "a", "b", "f")}, []),
        ({"prefix": ("a",), "suffix": ("f",)}, PATHS[3:5]),
        ({"max_depth": 2}, [("a", "b"), ("a", "c"), ("b", "a")]),
        ({"prefix": ("a", "b"), "max_depth": 3}, [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]),
        ({"limit": 2, "offset": 1}, PATHS[1:3]),
        ({"max_depth": 1, "limit": 1, "offset": 1}, [("b",)]),
    ],
)
def test_namespaces_are_listed_by_their_ends_and_cut_at_a_depth(
    make: Make, options: dict[str, Any], listed: list[tuple[str, ...]]
) -> None:
    store = make()
    for path in reversed(PATHS):
        store.put(path, "k", {"n": 1})
        store.put(path, "k2", {"n": 1})
    assert store.list_namespaces(**options) == listed


def test_namespaces_are_sorted_label_by_label(make: Make) -> None:
    store = make()
    for path in (("a", "b"), ("a-", "b"), ("a",), ("a", "B")):
        store.put(path, "k", {"n": 1})
    assert store.list_namespaces() == [("a",), ("a", "B"), ("a", "b"), ("a-", "b")]


def test_a_way_of_matching_that_there_is_not_is_refused(make: Make) -> None:
    store = make()
    store.put(("a",), "k", {"n": 1})
    with pytest.raises(ValueError, match="middle"):
        store.batch([ListNamespacesOp((MatchCondition("middle", ("a",)),))])  # type: ignore[arg-type]


# Search by meaning


def test_the_likest_items_come_first_with_their_cosine(make: Make) -> None:
    store = make(index(fields=["text"]))
    for key, text in {"a": "the red door", "b": "the red house", "c": "a green tree", "d": "the red door"}.items():
        store.put(("t",), key, {"text": text, "key": key})
    found = store.search(("t",), query="the red door")
    assert set(keys(found)[:2]) == {"a", "d"}
    assert keys(found)[2:] == ["b", "c"]
    assert [item.score for item in found[:2]] == pytest.approx([1, 1])
    assert 1 > found[2].score > found[3].score
    assert keys(store.search(("t",), query="the red door", limit=1, offset=2)) == ["b"]
    assert set(keys(store.search(("t",), query="red", filter={"key": {"$ne": "b"}}))) == {"a", "c", "d"}


def test_without_an_index_or_a_query_nothing_is_scored(make: Make) -> None:
    plain = make()
    plain.put(("t",), "k", {"text": "the red door"}, index=["text"])
    assert [item.score for item in plain.search(("t",), query="red")] == [None]
    store = make(index())
    store.put(("t",), "k", {"text": "the red door"})
    for query in (None, ""):
        assert [item.score for item in store.search(("t",), query=query)] == [None]


def test_an_item_is_found_by_its_best_text(make: Make) -> None:
    store = make(index(fields=["title", "items[*].text", "meta.{a,b}"]))
    store.put(("t",), "many", {"title": "house", "items": [{"text": "red door"}, {"text": "tree"}, {"no": 1}]})
    store.put(("t",), "meta", {"meta": {"a": "a blue boat", "b": "sea"}})
    for query, key in (("red door", "many"), ("tree", "many"), ("house", "many"), ("a blue boat", "meta")):
        first = store.search(("t",), query=query)[0]
        assert (first.key, first.score) == (key, pytest.approx(1))
    assert len(store.search(("t",), query="tree")) == 2


def test_a_put_may_choose_its_own_fields_or_none(make: Make) -> None:
    store = make(index(fields=["text"]))
    store.put(("t",), "own", {"text": "red door", "other": "green tree"}, index=["other"])
    store.put(("t",), "none", {"text": "red door"}, index=False)
    store.put(("t",), "lacking", {"title": "red door"})
    found = {item.key: item.score for item in store.search(("t",), query="green tree")}
    assert found == {"own": pytest.approx(1), "none": None, "lacking": None}
    assert keys(store.search(("t",), query="red door"))[0] == "own"
    assert keys(store.search(("t",), query="green tree", limit=1)) == ["own"]


def test_a_changed_value_is_found_by_its_new_text_only(make: Make) -> None:
    store = make(index(fields=["text"]))
    store.put(("t",), "k", {"text": "red door"})
    store.put(("t",), "k", {"text": "green tree"})
    assert store.search(("t",), query="green tree")[0].score == pytest.approx(1)
    assert store.search(("t",), query="red door")[0].score < 0.5
    store.put(("t",), "k", {"text": "green tree"}, index=False)
    assert store.search(("t",), query="green tree")[0].score is None
    store.delete(("t",), "k")
    assert store.search(("t",), query="green tree") == []


def test_words_of_any_script_are_searched(make: Make) -> None:
    store = make(index(fields=["text"]))
    texts = {"1": "这是中文", "2": "これは日本語です", "3": "Это русский", "4": "यह हिंदी है"}
    for key, text in texts.items():
        store.put(("t",), key, {"text": text})
    for key, text in texts.items():
        assert store.search(("t",), query=text)[0].key == key


# Any sequence of batches

LABELS = st.sampled_from(["a", "b", "a-"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k1", "k2", "k3", "k.4"])
WORDS = st.sampled_from(["red door", "blue door", "green tree", "the sea", ""])
VALUES = st.fixed_dictionaries(
    {"text": WORDS, "n": st.integers(-2, 2)},
    optional={"tags": st.lists(WORDS, max_size=2), "info": st.fixed_dictionaries({"kind": WORDS, "n": st.integers()})},
)
FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={"text": WORDS, "tags": st.lists(WORDS, max_size=2)}),
    st.fixed_dictionaries(
        {"n": st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$ne"]), st.integers(-2, 2))}
    ),
    st.fixed_dictionaries({"info": st.fixed_dictionaries({"kind": st.fixed_dictionaries({"$eq": WORDS})})}),
)
PATTERNS = st.lists(st.one_of(LABELS, st.just("*")), max_size=3).map(tuple)
CONDITIONS = st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATTERNS)
FIELDS = st.one_of(st.none(), st.just(False), st.just(["tags[*]", "info.kind"]), st.just(["text", "text"]))
OPS = st.one_of(
    st.builds(PutOp, NAMESPACES, KEYS, VALUES, FIELDS, st.none()),
    st.builds(PutOp, NAMESPACES, KEYS, VALUES, FIELDS, st.none()),
    st.builds(PutOp, NAMESPACES, KEYS, st.none(), st.none(), st.none()),
    st.builds(GetOp, NAMESPACES, KEYS),
    st.builds(
        SearchOp,
        st.lists(LABELS, max_size=2).map(tuple),
        FILTERS,
        st.integers(0, 6),
        st.integers(0, 4),
        st.one_of(st.none(), WORDS),
    ),
    st.builds(
        ListNamespacesOp, st.lists(CONDITIONS, max_size=2).map(tuple), st.one_of(st.none(), st.integers(1, 3)),
        st.integers(0, 5), st.integers(0, 3),
    ),
)  # fmt: skip
Place = tuple[tuple[str, ...], str]


def check_search(op: SearchOp, ours: Any, theirs: Any, written: list[Place]) -> None:
    """`theirs` is all that fits. Scored items come by score, the others newest first: each page is a cut of that."""
    scores = {(item.namespace, item.key): item.score for item in theirs}
    values = {(item.namespace, item.key): item.value for item in theirs}
    newest = sorted(scores, key=written.index, reverse=True)
    expected = sorted((place for place in newest if scores[place] is not None), key=lambda p: -(scores[p] or 0))
    expected += [place for place in newest if scores[place] is None]
    cut = slice(op.offset, op.offset + op.limit)
    places = [(item.namespace, item.key) for item in ours]
    assert [item.value for item in ours] == [values[place] for place in places]
    assert len(set(places)) == len(places)
    for item, place, other in zip(ours, places, expected[cut], strict=True):
        if item.score is None:
            assert (place, scores[place]) == (other, None)
        else:  # Of equal scores, either may come first.
            assert item.score == pytest.approx(scores[place], abs=1e-5)
            assert item.score == pytest.approx(scores[other], abs=1e-5)


def check(op: Op, ours: Result, theirs: Result, written: list[Place]) -> None:
    if isinstance(op, SearchOp):
        check_search(op, ours, theirs, written)
    elif isinstance(op, GetOp):
        assert (ours and (ours.namespace, ours.key, ours.value)) == (  # type: ignore[union-attr]
            theirs and (theirs.namespace, theirs.key, theirs.value)  # type: ignore[union-attr]
        )
    else:
        assert ours == theirs


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.one_of(st.lists(OPS, max_size=8), st.sampled_from(["reopen", "lose the index"])), max_size=8)
)
def test_any_sequence_of_batches_gives_what_langgraphs_store_gives(empty: Path, batches: list[list[Op] | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(empty, folder))
        config = index(fields=["text"])
        theirs = Mended(index=config)  # type: ignore[arg-type]
        ours = SqliteFaissStore.open(path, index=config)
        written: list[Place] = []
        for batch in batches:
            if isinstance(batch, str):
                ours.close()
                if batch == "lose the index":
                    (Path(folder) / "lab.items.faiss").unlink(missing_ok=True)
                ours = SqliteFaissStore.open(path, index=config)
                continue
            whole = [op._replace(limit=1000, offset=0) if isinstance(op, SearchOp) else op for op in batch]
            for op, mine, other in zip(batch, ours.batch(batch), theirs.batch(whole), strict=True):
                check(op, mine, other, written)
            for op in batch:
                if isinstance(op, PutOp):
                    place = (op.namespace, op.key)
                    written = [*(other for other in written if other != place), place]
        everything = SearchOp((), limit=1000, query="red door")
        check(everything, ours.batch([everything])[0], theirs.batch([everything])[0], written)
        ours.close()
