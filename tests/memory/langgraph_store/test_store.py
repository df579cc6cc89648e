"""What our LangGraph store does beyond LangGraph's contract: it keeps, it expires, it shares, it is mended."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import GetOp, PutOp, SearchItem, SearchOp

from memory import Database, HashingEmbedder, ReflectionMemory, SqliteFaissStore, errors
from memory.index.vector_index import VectorIndex
from memory.langgraph_store import store as langgraph_store

SPACE = ("notes", "ann")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> str:
        return self.moment.isoformat(timespec="microseconds")

    def pass_(self, minutes: float) -> None:
        self.moment += timedelta(minutes=minutes)


class Counting(HashingEmbedder):
    """An embedder that remembers what it was asked to embed."""

    def __init__(self, dimensions: int = 256):
        super().__init__(dimensions)
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        return super().embed(texts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def embedder() -> Counting:
    return Counting()


@pytest.fixture
def opened(path: Path, clock: Clock, embedder: Counting, notes: list[str]) -> Iterator[Callable[..., SqliteFaissStore]]:
    """Opens the store in the file, as a fresh process would."""
    stores: list[SqliteFaissStore] = []

    def made(**options: Any) -> SqliteFaissStore:
        given = {"index": {"embed": embedder, "fields": ["text"]}, "clock": clock, "notify": notes.append, **options}
        stores.append(SqliteFaissStore.open(path, **given))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., SqliteFaissStore]) -> SqliteFaissStore:
    return opened()


Opened = Callable[..., SqliteFaissStore]


def keys(found: list[SearchItem]) -> list[str]:
    return [item.key for item in found]


def put(store: SqliteFaissStore, **texts: str) -> None:
    store.batch([PutOp(SPACE, key, {"text": text}) for key, text in texts.items()])


def held(store: SqliteFaissStore, table: str) -> int:
    return int(store.database.connection.execute(f"SELECT count(*) FROM {table}")[0][0])


# Keeping


def test_items_their_times_and_their_scores_outlast_the_process(opened: Opened, clock: Clock) -> None:
    with opened() as store:
        put(store, a="red door", b="green tree")
        clock.pass_(1)
        put(store, a="red house")
        before = store.search(SPACE, query="red house")
    store = opened()
    assert store.search(SPACE, query="red house") == before
    assert [item.score for item in store.search(SPACE, query="red house")] == [item.score for item in before]
    assert before[0].updated_at - before[0].created_at == timedelta(minutes=1)
    assert before[1].updated_at == before[1].created_at


def test_what_was_written_last_comes_first(store: SqliteFaissStore) -> None:
    put(store, a="1", b="2", c="3")
    put(store, a="4")
    store.batch([PutOp(SPACE, "b", {"n": 1}), PutOp(SPACE, "c", {"n": 2}), PutOp(SPACE, "b", {"n": 3})])
    assert keys(store.search(SPACE)) == ["b", "c", "a"]
    assert keys(store.search(SPACE, limit=1, offset=1)) == ["c"]
    assert keys(store.search(SPACE, filter={"n": {"$gt": 1}}, limit=1, offset=1)) == ["c"]
    assert store.search(SPACE, limit=0) == store.search(SPACE, offset=3) == []


def test_pages_are_cuts_of_one_list_also_where_filters_leave_most_out(
    store: SqliteFaissStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(langgraph_store, "PAGE", 3)
    store.batch(
        [PutOp(SPACE, str(n), {"text": f"door {n}", "even": n % 2 == 0}, n % 5 > 0 and None) for n in range(20)]
    )
    for query in (None, "door 7"):
        whole = keys(store.search(SPACE, query=query, filter={"even": True}, limit=20))
        assert sorted(map(int, whole)) == list(range(0, 20, 2))
        pages = [store.search(SPACE, query=query, filter={"even": True}, limit=3, offset=o) for o in range(0, 12, 3)]
        assert [key for page in pages for key in keys(page)] == whole


def test_a_batch_is_written_whole_or_not_at_all(store: SqliteFaissStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, a="red door")

    def full(*_: object) -> None:
        raise errors.DiskFull("full")

    with monkeypatch.context() as patch, pytest.raises(errors.DiskFull):
        patch.setattr(store.database.vectors, "put", full)
        store.batch([PutOp(SPACE, "a", None), PutOp(SPACE, "b", {"text": "tree"})])
    with pytest.raises(errors.InvalidItem):
        store.batch([PutOp(SPACE, "b", {"text": "tree"}), PutOp(SPACE, "c", {"x": object()})])
    assert keys(store.search(())) == ["a"]
    assert keys(store.search((), query="red door")) == ["a"]


def test_an_item_that_cannot_be_embedded_is_not_kept(opened: Opened) -> None:
    def fails(texts: Sequence[str]) -> list[list[float]]:
        raise ConnectionError("no network")

    store = opened(index={"dims": 3, "embed": fails})
    with pytest.raises(ConnectionError):
        store.put(SPACE, "a", {"text": "red door"})
    store.put(SPACE, "b", {"text": "red door"}, index=False)
    assert keys(store.search(())) == ["b"]


def test_a_store_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteFaissStore.open(":memory:", index={"embed": Counting()}) as store:
        put(store, a="red door")
        assert keys(store.search((), query="red door")) == ["a"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(errors.DatabaseClosed):
        store.get(SPACE, "a")


def test_a_file_that_cannot_be_indexed_is_closed_again(path: Path) -> None:
    with pytest.raises(ValueError, match="dims"):
        SqliteFaissStore.open(path, index={"embed": lambda texts: []})
    path.unlink()
    assert list(path.parent.glob("lab.db-*")) == []


# Times to live


def test_what_has_expired_is_gone_whether_it_was_swept_or_not(store: SqliteFaissStore, clock: Clock) -> None:
    store.put((*SPACE, "x"), "short", {"text": "red door"}, ttl=5)
    store.put((*SPACE, "y"), "long", {"text": "red house"}, ttl=10)
    clock.pass_(5)
    assert store.get((*SPACE, "x"), "short") is None
    assert keys(store.search(SPACE, refresh_ttl=False)) == ["long"]
    assert keys(store.search(SPACE, query="red door", refresh_ttl=False)) == ["long"]
    assert keys(store.search((), query="red door", refresh_ttl=False)) == ["long"]
    assert store.list_namespaces() == [(*SPACE, "y")]
    assert (store.sweep_ttl(), store.sweep_ttl()) == (1, 0)
    assert held(store, "items") == 1
    clock.pass_(5)
    assert store.list_namespaces() == []


def test_reading_and_writing_begin_the_time_anew(store: SqliteFaissStore, clock: Clock) -> None:
    reads: list[Callable[[], object]] = [
        lambda: store.get(SPACE, "k"),
        lambda: store.search(SPACE),
        lambda: store.search(SPACE, query="door"),
        lambda: store.put(SPACE, "k", {"text": "door"}, ttl=5),
    ]
    store.put(SPACE, "k", {"text": "door"}, ttl=5)
    for read in reads:
        clock.pass_(4)
        read()
    clock.pass_(4)
    assert store.get(SPACE, "k", refresh_ttl=False) is not None
    clock.pass_(1)
    assert store.get(SPACE, "k") is None


def test_only_what_a_search_returned_lives_on(store: SqliteFaissStore, clock: Clock) -> None:
    store.batch([PutOp(SPACE, key, {"text": "door"}, ttl=5) for key in "abc"])
    clock.pass_(4)
    assert keys(store.search(SPACE, limit=1, offset=1)) == ["b"]
    clock.pass_(4)
    assert keys(store.search(SPACE)) == ["b"]


def test_the_configuration_sets_the_default_time_and_whether_reading_prolongs_it(opened: Opened, clock: Clock) -> None:
    store = opened(ttl={"default_ttl": 5, "refresh_on_read": False})
    store.put(SPACE, "default", {"n": 1})
    store.put(SPACE, "own", {"n": 1}, ttl=20)
    store.put(SPACE, "never", {"n": 1}, ttl=None)
    store.put(SPACE, "kept", {"n": 1})
    clock.pass_(4)
    store.get(SPACE, "default")
    store.get(SPACE, "kept", refresh_ttl=True)
    clock.pass_(4)
    assert set(keys(store.search(SPACE))) == {"own", "never", "kept"}
    clock.pass_(1000)
    assert keys(store.search(SPACE)) == ["never"]


def test_what_is_put_in_place_of_something_expired_is_new(store: SqliteFaissStore, clock: Clock) -> None:
    store.put(SPACE, "k", {"n": 1}, ttl=5)
    clock.pass_(6)
    store.put(SPACE, "k", {"n": 2})
    item = store.get(SPACE, "k")
    assert item is not None
    assert item.created_at == item.updated_at == clock.moment
    clock.pass_(1000)
    assert store.get(SPACE, "k") is not None, "put again without a time to live, it has none"


def test_writes_sweep_once_in_every_interval(opened: Opened, clock: Clock) -> None:
    store = opened(ttl={"sweep_interval_minutes": 60})
    store.put(SPACE, "short", {"n": 1}, ttl=5)
    clock.pass_(59)
    store.put(SPACE, "a", {"n": 1})
    assert held(store, "items") == 2
    clock.pass_(1)
    store.get(SPACE, "a")
    assert held(store, "items") == 2, "reading sweeps nothing"
    store.put(SPACE, "b", {"n": 1})
    assert held(store, "items") == 2
    assert set(keys(store.search(()))) == {"a", "b"}


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), "soon"])
def test_a_time_to_live_that_is_no_number_is_refused(store: SqliteFaissStore, ttl: Any) -> None:
    with pytest.raises(errors.InvalidItem, match="minutes"):
        store.put(SPACE, "k", {"n": 1}, ttl=ttl)


# Vectors


def test_a_text_is_embedded_once_and_only_where_it_is_searched(opened: Opened, embedder: Counting) -> None:
    with opened() as store:
        store.batch([PutOp(SPACE, key, {"text": "red door", "n": 1}) for key in "abc"])
        store.put(SPACE, "a", {"text": "red door", "n": 2})
        store.put(SPACE, "d", {"text": "green tree"}, index=False)
        store.search(SPACE, filter={"n": 2})
        assert embedder.asked == ["red door"]
        store.search(SPACE, query="door")
        store.batch([SearchOp(SPACE, query="tree"), SearchOp((), query="tree")])
    store = opened()
    store.search(SPACE, query="red")
    assert embedder.asked == ["red door", "door", "tree", "red"]


def test_what_is_deleted_leaves_no_text_and_no_vector(store: SqliteFaissStore, embedder: Counting) -> None:
    put(store, a="red door", b="red door", c="green tree")
    store.search(SPACE, query="door")
    store.delete(SPACE, "a")
    assert held(store, "vectors") == 2, "another item still has this text"
    store.delete(SPACE, "b")
    put(store, c="blue sea")
    texts = {
        text for (text,) in store.database.connection.execute("SELECT text FROM item_texts WHERE item IS NOT NULL")
    }
    assert texts == {"blue sea"}
    assert "door" not in str(store.database.connection.execute("SELECT text FROM item_texts"))
    assert held(store, "vectors") == 1
    found = store.search(SPACE, query="red door")
    assert [(item.key, item.value["text"]) for item in found] == [("c", "blue sea")]


def test_a_text_that_moves_to_another_item_in_one_batch_keeps_its_vector(store: SqliteFaissStore) -> None:
    put(store, a="red door")
    store.batch([PutOp(SPACE, "a", None), PutOp(SPACE, "b", {"text": "red door"})])
    assert held(store, "vectors") == 1
    assert store.search(SPACE, query="red door")[0].score == pytest.approx(1)


def test_the_index_grows_with_the_items_and_not_with_their_changes(store: SqliteFaissStore) -> None:
    for number in range(20):
        put(store, a=f"red door {number}", b=f"green tree {number}")
        store.delete(SPACE, "b")
        assert store.search(SPACE, query=f"red door {number}")[0].score == pytest.approx(1)
    assert held(store, "item_texts") == 2
    assert held(store, "vectors") == 1


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"torn"), lambda file: None])
def test_a_lost_or_torn_index_is_made_again_without_embedding(
    opened: Opened, path: Path, embedder: Counting, harm: Callable[[Path], Any], notes: list[str]
) -> None:
    with opened() as store:
        put(store, a="red door", b="green tree", c="blue sea")
        store.delete(SPACE, "c")
        before = store.search(SPACE, query="red door")
    file = path.with_name("lab.items.faiss")
    whole = file.read_bytes()
    harm(file)
    broken = file.exists() is False or file.read_bytes() != whole
    with opened() as store:
        assert store.search(SPACE, query="red door") == before
    assert len(notes) == int(broken)
    assert set(embedder.asked[3:]) == {"red door"}, "the question, and no text of an item"


def test_an_older_index_catches_up(opened: Opened, path: Path) -> None:
    with opened() as store:
        put(store, a="red door", b="green tree")
        store.search(SPACE, query="door")
    file = path.with_name("lab.items.faiss")
    old = file.read_bytes()
    with opened() as store:
        put(store, a="blue sea", c="white cloud")
        store.delete(SPACE, "b")
        store.search(SPACE, query="door")
    file.write_bytes(old)
    found = opened().search(SPACE, query="blue sea")
    assert keys(found) == ["a", "c"]
    assert found[0].score == pytest.approx(1)


def test_another_embedder_takes_over_what_the_first_had_embedded(opened: Opened, notes: list[str]) -> None:
    with opened() as store:
        put(store, a="red door", b="green tree")
        store.search(SPACE, query="door")
    store = opened(index={"embed": Counting(64)})
    assert keys(store.search(SPACE, query="green tree")) == ["b", "a"]
    assert "was made by the embedder 'hashing-256'" in notes[0]


def test_items_that_were_put_without_an_index_come_last_and_unscored(opened: Opened) -> None:
    with opened(index=None) as store:
        assert store.index_config is None
        put(store, old="red door")
    with opened() as store:
        put(store, new="green tree")
        found = store.search(SPACE, query="red door")
        assert [(item.key, item.score is None) for item in found] == [("new", False), ("old", True)]
    with opened(index=None) as store:
        put(store, new="blue sea")
    assert [item.score for item in opened().search(SPACE, query="green tree")] == [None, None]


@pytest.mark.parametrize("few", [2, 1000])
def test_the_nearest_are_found_however_many_others_are_nearer(
    store: SqliteFaissStore, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(langgraph_store, "FEW", few)
    store.batch([PutOp(("other",), str(n), {"text": "red door", "n": n}) for n in range(700)])
    put(store, far="green tree", near="red tree", mid="red green tree of the sea")
    assert keys(store.search(SPACE, query="red door", limit=2)) == ["near", "mid"]
    assert keys(store.search((), query="red door", filter={"n": 650})) == ["650"]
    assert len(store.search((), query="red door", limit=1000)) == 703


def test_a_text_that_was_written_after_the_index_looked_is_left_to_the_next_search(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may give the number of a text to another one, between the index's answer and the database's."""
    store, writer = opened(), opened()
    put(store, a="red door", b="green tree")
    nearest = VectorIndex.search

    def overtaken(*args: Any, **options: Any) -> Any:
        found = nearest(*args, **options)
        writer.delete(SPACE, "a")
        put(writer, c="blue sea")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "search", overtaken)
        assert keys(store.search(SPACE, query="red door")) == ["b"]
    assert {item.key: item.score for item in store.search(SPACE, query="blue sea")} == {
        "c": pytest.approx(1),
        "b": pytest.approx(0),
    }


def test_vectors_of_another_length_are_refused(opened: Opened) -> None:
    store = opened(index={"dims": 5, "embed": lambda texts: [[1.0, 0.0]] * len(texts)})
    with pytest.raises(errors.WrongVectors, match="dims"):
        store.put(SPACE, "a", {"text": "red door"})
    assert store.search(()) == []


def test_a_search_within_a_transaction_that_is_undone_leaves_the_index_as_it_was(store: SqliteFaissStore) -> None:
    put(store, a="red door", b="green tree")
    store.search(SPACE, query="door")
    with pytest.raises(KeyboardInterrupt), store.database.transaction():
        store.delete(SPACE, "a")
        put(store, c="blue sea")
        assert keys(store.search(SPACE, query="red door")) == ["b"]
        assert set(keys(store.search(SPACE))) == {"b", "c"}
        raise KeyboardInterrupt
    assert [(item.key, item.score) for item in store.search(SPACE, query="red door")] == [
        ("a", pytest.approx(1)),
        ("b", pytest.approx(0)),
    ]


# Many at once


def test_a_reader_follows_the_writer_and_changes_nothing(opened: Opened, clock: Clock, path: Path) -> None:
    writer = opened()
    put(writer, a="red door")
    writer.put(SPACE, "brief", {"text": "red sea"}, ttl=5)
    reader = opened(readonly=True)
    assert keys(reader.search(SPACE, query="red door")) == ["a", "brief"]
    put(writer, b="green tree", a="blue boat")
    assert keys(reader.search(SPACE, query="green tree"))[0] == "b"
    assert reader.search(SPACE, query="blue boat")[0].score == pytest.approx(1)
    writer.delete(SPACE, "b")
    assert "b" not in keys(reader.search(SPACE, query="green tree"))
    clock.pass_(5)
    assert keys(reader.search(SPACE)) == ["a"], "its reading has not prolonged the time to live"
    with pytest.raises(errors.ReadOnlyDatabase):
        put(reader, c="no")
    reader.close()
    assert not path.with_name("lab.items.faiss").exists()


WRITE = """
import sys
from memory import HashingEmbedder, SqliteFaissStore

with SqliteFaissStore.open(sys.argv[1], index={"embed": HashingEmbedder(), "fields": ["text"]}) as store:
    for number in range(30):
        store.put(("notes", "ann"), str(number), {"text": f"door number {number}"})
        print(number, flush=True)
"""


def test_a_reader_sees_at_once_what_another_process_has_written(opened: Opened, path: Path) -> None:
    opened().close()
    reader = opened(readonly=True)
    with subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            number = line.strip()
            assert reader.search(SPACE, query=f"door number {number}")[0].value == {"text": f"door number {number}"}
    assert len(reader.search(SPACE, query="door", limit=100)) == 30


def test_threads_may_share_a_store(store: SqliteFaissStore) -> None:
    def work(number: int) -> str:
        put(store, **{f"k{number}": f"door number {number}"})
        return store.search(SPACE, query=f"door number {number}", limit=1)[0].key

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(40))) == [f"k{number}" for number in range(40)]
    assert len(store.search(SPACE, limit=100)) == 40


def test_tasks_may_share_a_store(store: SqliteFaissStore) -> None:
    async def work(number: int) -> Any:
        await store.aput(SPACE, str(number), {"text": f"door number {number}"})
        found = await store.asearch(SPACE, query=f"door number {number}", limit=1)
        got = await store.aget(SPACE, str(number))
        assert got is not None and got.value == found[0].value
        return found[0].key

    async def all_of_them() -> list[Any]:
        async with store:
            done = await asyncio.gather(*(work(number) for number in range(20)))
            await store.adelete(SPACE, "7")
            assert await store.alist_namespaces() == [SPACE]
            assert len(await store.asearch(SPACE, limit=100)) == 19
            return done

    assert asyncio.run(all_of_them()) == [str(number) for number in range(20)]


def test_results_of_a_read_are_the_caller_s_own(store: SqliteFaissStore) -> None:
    store.put(SPACE, "k", {"deep": {"n": [1]}})
    (first,) = store.batch([GetOp(SPACE, "k")])
    first.value["deep"]["n"].append(2)  # type: ignore[union-attr]
    item = store.get(SPACE, "k")
    assert item is not None and item.value == {"deep": {"n": [1]}}


# Beside the reflections


def test_the_store_of_a_memory_shares_its_file_its_embedder_and_its_clock(
    memory: ReflectionMemory, reflection: Callable[..., Any], tmp_path: Path
) -> None:
    memory.remember([reflection()])
    with SqliteFaissStore.of_memory(memory, fields=["text"]) as store:
        put(store, a="Coins are found in the kitchen.", b="Doors are closed.")
        assert keys(store.search((), query="Where are coins found?")) == ["a", "b"]
        assert store.index_config is not None and store.index_config["dims"] == 64
    assert (tmp_path / "texts.items.faiss").exists()
    assert [hit.reflection.id for hit in memory.search("coins")] == ["rf-1"]
    assert memory.count() == 1


def test_a_store_says_by_which_embeddings_it_searches(database: Database) -> None:
    plain = SqliteFaissStore(database)
    assert getattr(plain, "embeddings", "missing") is None
    searched = SqliteFaissStore(database, index={"dims": 32, "embed": HashingEmbedder(32)})
    vectors = getattr(searched, "embeddings", None)
    assert vectors is not None
    assert len(vectors.embed_query("red door")) == 32
    assert vectors.embed_documents(["red door"]) == [vectors.embed_query("red door")]


def test_a_nested_key_of_a_filter_finds_its_item(database: Database) -> None:
    store = SqliteFaissStore(database)
    store.put(("docs",), "a", {"user": {"access-level": "admin"}})
    store.put(("docs",), "b", {"user": {"access-level": "guest"}})
    assert [item.key for item in store.search(("docs",), filter={"user.access-level": "admin"})] == ["a"]
