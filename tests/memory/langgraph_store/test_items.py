from __future__ import annotations

from collections.abc import Sequence

import pytest

from memory import Database
from memory.langgraph_store.items import FREE, Items, ItemTexts

AT = "2030-01-01T00:00:00.000000+00:00"
LATER = "2030-01-01T00:10:00.000000+00:00"


@pytest.fixture
def items(database: Database) -> Items:
    return Items(database, "model")


def put(items: Items, key: str, *texts: str, namespace: Sequence[str] = ("a",), ttl: float | None = None) -> None:
    items.put(namespace, key, "{}", texts, ttl, AT)


def rows(items: Items) -> list[tuple[int | None, str]]:
    return [
        tuple(row) for row in items.database.connection.execute("SELECT item, text FROM item_texts ORDER BY number")
    ]  # type: ignore[misc]


def test_a_text_that_stays_is_not_written_again(items: Items) -> None:
    put(items, "k", "one", "two", "two")
    source = ItemTexts(items.database)
    mark = source.mark()
    put(items, "k", "two", "three")
    assert rows(items) == [(1, "three"), (1, "two")]
    changed = source.entries(mark)
    assert {entry.number for entry in changed} == {1}
    assert source.texts([2, 1]) == ["two", "three"]
    assert changed[-1].mark == source.mark() > mark


def test_a_row_that_no_item_uses_is_taken_by_the_next_text(items: Items) -> None:
    put(items, "k", "one", "two")
    items.delete(("a",), "k")
    assert rows(items) == [(None, FREE), (None, FREE)]
    assert len({entry.stamp for entry in ItemTexts(items.database).entries()}) == 1
    put(items, "l", "three", "four", "five")
    assert sorted(text for _, text in rows(items)) == ["five", "four", "three"]


def test_the_owner_of_a_text_is_told_if_it_is_in_place_alive_and_not_too_new(items: Items) -> None:
    put(items, "k", "one", namespace=("a", "b"), ttl=5)
    put(items, "l", "two", namespace=("ab",))
    source = ItemTexts(items.database)
    mark = source.mark()
    put(items, "m", "three", namespace=("a",))
    everything = [1, 2, 3, 99]
    assert {n: row.key for n, row in items.owners(everything, (), AT, source.mark()).items()} == {
        1: "k",
        2: "l",
        3: "m",
    }
    assert [row.path for row in items.owners(everything, ("a",), AT, mark).values()] == [("a", "b")]
    assert list(items.owners(everything, ("a",), LATER, source.mark())) == [3]
    assert sorted(items.numbers(("a",), 10)) == [1, 3]
    assert len(items.numbers((), 2)) == 2


def test_walking_reads_page_by_page(items: Items) -> None:
    for number in range(7):
        put(items, str(number), *(["text"] if number % 2 else []))
    newest = [str(number) for number in range(6, -1, -1)]
    for page in (1, 3, 7, 100):
        assert [row.key for row in items.walk((), AT, page=page)] == newest
    assert [row.key for row in items.walk((), AT, page=2, textless=True)] == ["6", "4", "2", "0"]


def test_a_thousand_items_expire_at_once(items: Items) -> None:
    with items.database.transaction():
        for number in range(1001):
            put(items, str(number), f"text {number}", ttl=1)
    put(items, "kept", "text 7")
    assert items.delete_expired(AT) == 0
    assert items.delete_expired(LATER) == 1001
    assert [row.key for row in items.walk((), LATER)] == ["kept"]
    assert sum(item is not None for item, _ in rows(items)) == 1


def test_a_namespace_without_labels_is_a_place_too(items: Items) -> None:
    put(items, "k", namespace=())
    row = items.get((), "k", AT)
    assert row is not None and row.path == ()
    assert items.namespaces((), AT) == [()]


def test_namespaces_are_told_apart_by_whole_labels_and_only_if_something_lives_there(items: Items) -> None:
    for namespace in ("a", "a-", "a.b", "a.b.c", "a.\U0010ffff", "a/", "ab", "b"):
        put(items, "k", namespace=namespace.split("."))
        put(items, "l", namespace=namespace.split("."))
    put(items, "k", namespace=("a", "gone"), ttl=5)
    below = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "\U0010ffff")]
    assert items.namespaces(("a",), LATER) == below
    assert len(items.namespaces((), LATER)) == 8
    assert ("a", "gone") in items.namespaces(("a",), AT)
    assert items.namespaces(("x",), AT) == []
