"""The tables behind a LangGraph store: items by namespace and key, and those texts of theirs that are searched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from memory.index.sources import Entry
from memory.store.database import Database
from memory.store.reflections import stamp
from memory.store.sql import chunks, marks

FREE = "\x00"
"""What stands in a row of texts that no item uses. It is never embedded: its vector is nought."""

PAGE = 200
"""Rows that are read at once while some are being filtered out."""

_NEWEST = 2**63 - 1
_ROW = "items.number, namespace, key, value, created_at, updated_at, ttl"
_ALIVE = "(expires_at IS NULL OR expires_at > ?)"
_PUT = (
    "INSERT INTO items (namespace, key, value, created_at, updated_at, ttl, expires_at, changed) VALUES "
    "(:namespace, :key, :value, :at, :at, :ttl, :expires_at, (SELECT ifnull(max(changed), 0) + 1 FROM items)) "
    "ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at, "
    "ttl = excluded.ttl, changed = excluded.changed, "
    # An expired item is gone, even if nobody has swept it away: what takes its place is new.
    "created_at = iif(ifnull(expires_at, :now + 1) > :now, created_at, excluded.created_at), "
    "expires_at = excluded.expires_at"
)


class Row(NamedTuple):
    """An item as it is kept: `namespace` joined by dots, `value` as JSON, `ttl` in minutes."""

    number: int
    namespace: str
    key: str
    value: str
    created_at: str
    updated_at: str
    ttl: float | None

    @property
    def path(self) -> tuple[str, ...]:
        """The namespace, label by label."""
        return _labels(self.namespace)


class Items:
    """Items and their texts. `at` is the present moment (ISO 8601): what has expired by then is not there.

    `model` is the embedder whose vectors are dropped together with the last text that they were made for.
    """

    def __init__(self, database: Database, model: str | None = None):
        self.database = database
        self.model = model

    # Reading

    def get(self, namespace: Sequence[str], key: str, at: str) -> Row | None:
        """The item with this key in exactly this namespace."""
        rows = self.database.connection.execute(
            f"SELECT {_ROW} FROM items WHERE namespace = ? AND key = ? AND {_ALIVE}",
            (".".join(namespace), key, _seconds(at)),
        )
        return Row(*rows[0]) if rows else None

    def walk(self, prefix: Sequence[str], at: str, *, page: int = PAGE, textless: bool = False) -> Iterator[Row]:
        """The items in and below `prefix`, the last written first; with `textless` only those without a text."""
        below, values = _below(prefix)
        only = "AND NOT EXISTS (SELECT 1 FROM item_texts WHERE item = items.number)" if textless else ""
        last = _NEWEST
        while True:
            rows = self.database.connection.execute(
                f"SELECT {_ROW}, changed FROM items WHERE {below} AND {_ALIVE} AND changed < ? {only} "
                "ORDER BY changed DESC LIMIT ?",
                [*values, _seconds(at), last, page],
            )
            yield from (Row(*row[:-1]) for row in rows)
            if len(rows) < page:
                return
            last = rows[-1][-1]

    def owners(self, numbers: Sequence[int], prefix: Sequence[str], at: str, mark: int) -> dict[int, Row]:
        """By the number of a text: the item in or below `prefix` that it belongs to.

        What was written after `mark` is left out: an index that looked at that moment may know another text by the
        same number.
        """
        below, values = _below(prefix)
        found: dict[int, Row] = {}
        for part in chunks(numbers):
            rows = self.database.connection.execute(
                f"SELECT item_texts.number, {_ROW} FROM item_texts JOIN items ON items.number = item WHERE "
                f"item_texts.number IN {marks(part)} AND item_texts.changed <= ? AND {below} AND {_ALIVE}",
                [*part, mark, *values, _seconds(at)],
            )
            found.update((row[0], Row(*row[1:])) for row in rows)
        return found

    def numbers(self, prefix: Sequence[str], limit: int) -> list[int]:
        """The numbers of up to `limit` texts of the items in and below `prefix`, those that have expired included."""
        below, values = _below(prefix)
        rows = self.database.connection.execute(
            f"SELECT item_texts.number FROM items JOIN item_texts ON item = items.number WHERE {below} LIMIT ?",
            [*values, limit],
        )
        return [row[0] for row in rows]

    def namespaces(self, prefix: Sequence[str], at: str) -> list[tuple[str, ...]]:
        """Every namespace in and below `prefix` that holds an item, in no particular order."""
        path = ".".join(prefix)
        # From one namespace to the next, without reading the items of each. SQLite puts a blob behind every text.
        rows = self.database.connection.execute(
            "WITH RECURSIVE place (name) AS ("
            "SELECT min(namespace) FROM items WHERE namespace >= :low AND namespace < :high UNION ALL "
            "SELECT (SELECT min(namespace) FROM items WHERE namespace > name AND namespace < :high) FROM place "
            "WHERE name IS NOT NULL) "
            "SELECT name FROM place WHERE EXISTS "
            "(SELECT 1 FROM items WHERE namespace = name AND (expires_at IS NULL OR expires_at > :now))",
            {"low": path, "high": f"{path}/" if path else b"", "now": _seconds(at)},
        )
        found = [_labels(name) for (name,) in rows]
        return [labels for labels in found if labels[: len(prefix)] == tuple(prefix)]

    # Writing, within a transaction of the caller

    def put(
        self, namespace: Sequence[str], key: str, value: str, texts: Sequence[str], ttl: float | None, at: str
    ) -> None:
        """Keep `value` (JSON) in place of what is there, found by `texts`; it expires after `ttl` minutes."""
        now = _seconds(at)
        row = {
            "namespace": ".".join(namespace), "key": key, "value": value, "at": at, "ttl": ttl, "now": now,
            "expires_at": None if ttl is None else now + 60 * ttl,
        }  # fmt: skip
        self.database.connection.execute(_PUT, row)
        found = self.database.connection.execute(
            "SELECT items.number, item_texts.number, sha FROM items LEFT JOIN item_texts ON item = items.number "
            "WHERE namespace = :namespace AND key = :key",
            row,
        )
        held = {sha: number for _, number, sha in found if number is not None}
        wanted = {text_name(text): text for text in texts}
        self._free({number: sha for sha, number in held.items() if sha not in wanted})
        self._put_texts(found[0][0], {sha: text for sha, text in wanted.items() if sha not in held})

    def delete(self, namespace: Sequence[str], key: str) -> None:
        """Remove an item, its texts and their vectors, if it is there."""
        self._delete("namespace = ? AND key = ?", (".".join(namespace), key))

    def delete_expired(self, at: str) -> int:
        """Remove what has expired; return how many items that were."""
        return self._delete("expires_at <= ?", (_seconds(at),))

    def refresh(self, numbers: Sequence[int], at: str) -> None:
        """Let the time to live of these items begin anew."""
        for part in chunks(numbers):
            self.database.connection.execute(
                f"UPDATE items SET expires_at = ? + 60 * ttl WHERE ttl IS NOT NULL AND number IN {marks(part)}",
                [_seconds(at), *part],
            )

    def _delete(self, condition: str, values: Sequence[Any]) -> int:
        rows = self.database.connection.execute(f"SELECT number FROM items WHERE {condition}", values)
        for part in chunks([row[0] for row in rows]):
            texts = self.database.connection.execute(
                f"SELECT number, sha FROM item_texts WHERE item IN {marks(part)}", part
            )
            self._free(dict(texts))
            self.database.connection.execute(f"DELETE FROM items WHERE number IN {marks(part)}", part)
        return len(rows)

    def _put_texts(self, item: int, texts: Mapping[str, str]) -> None:
        """Give `item` these texts, by their SHA-256: in rows that are free, then in new ones."""
        if not texts:
            return
        free = self.database.connection.execute(
            "SELECT number FROM item_texts WHERE item IS NULL LIMIT ?", (len(texts),)
        )
        places = [row[0] for row in free] + [None] * (len(texts) - len(free))
        for number, (sha, text) in zip(places, texts.items(), strict=True):
            self._write_text(number, item, text, sha)

    def _free(self, texts: Mapping[int, str]) -> None:
        """Take the texts with these numbers, given with their SHA-256, from their item, and drop their vectors."""
        for number in texts:
            self._write_text(number, None, FREE, "")
        for part in chunks(list(texts.values())):
            self.database.connection.execute(
                f"DELETE FROM vectors WHERE model = ? AND sha IN {marks(part)} "
                "AND NOT EXISTS (SELECT 1 FROM item_texts WHERE item_texts.sha = vectors.sha)",
                [self.model, *part],
            )

    def _write_text(self, number: int | None, item: int | None, text: str, sha: str) -> None:
        self.database.connection.execute(
            "INSERT INTO item_texts (number, item, text, sha, stamp, changed) "
            "SELECT ?, ?, ?, ?, ?, ifnull(max(changed), 0) + 1 FROM item_texts WHERE true "
            "ON CONFLICT (number) DO UPDATE SET item = excluded.item, text = excluded.text, sha = excluded.sha, "
            "stamp = excluded.stamp, changed = excluded.changed",
            (number, item, text, sha, stamp(text)),
        )


class ItemTexts:
    """What the index of a store is made from: every row of texts, those that are free included."""

    def __init__(self, database: Database):
        self.database = database

    def mark(self) -> int:
        """Grows with every change to any text."""
        return int(self.database.connection.execute("SELECT ifnull(max(changed), 0) FROM item_texts")[0][0])

    def entries(self, after: int = -1) -> list[Entry]:
        """See `Source`."""
        rows = self.database.connection.execute(
            "SELECT changed, number, stamp FROM item_texts WHERE changed > ? ORDER BY changed", (after,)
        )
        return [Entry(*row) for row in rows]

    def texts(self, numbers: Sequence[int]) -> list[str]:
        """See `Source`."""
        found: dict[int, str] = {}
        for part in chunks(numbers):
            rows = self.database.connection.execute(
                f"SELECT number, text FROM item_texts WHERE number IN {marks(part)}", part
            )
            found.update(rows)
        return [found[number] for number in numbers]


def text_name(text: str) -> str:
    """The SHA-256 of `text`, under which its vectors are kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _labels(namespace: str) -> tuple[str, ...]:
    return tuple(namespace.split(".")) if namespace else ()


def _below(prefix: Sequence[str]) -> tuple[str, list[str]]:
    """The condition that a namespace is `prefix` or lies below it, and its values."""
    if not prefix:
        return "true", []
    path = ".".join(prefix)
    # No label has a dot in it, and `/` is the character after it: a range, which the index of the table answers.
    return "(namespace = ? OR (namespace > ? AND namespace < ?))", [path, f"{path}.", f"{path}/"]
