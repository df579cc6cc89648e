"""The memory as a LangGraph store: JSON items by namespace and key in SQLite, searched by meaning with FAISS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from memory.langgraph_store.index import ItemIndex
from memory.langgraph_store.items import PAGE, Items, Row
from memory.langgraph_store.values import checked_ttl, checked_value, fits
from memory.records import now
from memory.store.database import Database

if TYPE_CHECKING:
    import numpy as np

    from memory.reflection_memory import ReflectionMemory

FEW = 1000
"""Up to so many texts in a namespace, exactly these are compared; beyond, the nearest of all are sifted."""


class SqliteFaissStore(BaseStore):
    """A LangGraph store that keeps everything in one SQLite file, and needs no extension of SQLite.

    Args:
        database: where the items are kept, beside everything else.
        index: turns search by meaning on: LangGraph's `IndexConfig`, whose `embed` may also be an embedder of this
            package (which knows its `dims`). None: a query is ignored, as LangGraph's stores do.
        ttl: LangGraph's `TTLConfig`, in minutes. What has expired is never returned, as if `omit_expired` were set; it
            is deleted by `sweep_ttl`, or with a write once every `sweep_interval_minutes`.
        index_path: the file of the index, a cache; by default `NAME.items.faiss` beside the database `NAME.db`.
        model_id: the name under which the vectors of `index["embed"]` are kept; see `ItemIndex`.
        notify: is told, in a sentence, when the index had to be made again, and why.
        clock: gives the present moment as `records.now` does.

    Attributes:
        embeddings: LangChain's `Embeddings` by which texts are searched; None without an index.

    It behaves as LangGraph's own stores: within a batch every read sees what was there before it, then all writes are
    done, or none; of several writes to one key the last counts. Results without a query come newest first, those with
    one by their cosine (of an item's best text), and after them items that have no searched text, without a score. An
    item keeps its `created_at` when it is written again. Values are JSON: tuples come back as lists.

    Threads and event loops may share one object; several processes may read one file while one writes. On a database
    that is open for reading only, reading does not prolong the time to live. Deleting also deletes the vectors.

    Raises:
        InvalidItem: on a value that is not JSON, or a time to live that is no number.
        InvalidNamespaceError: as LangGraph defines it.
        MemoryStoreError: of the database, see `Database`.
    """

    supports_ttl = True

    def __init__(
        self,
        database: Database,
        *,
        index: Mapping[str, Any] | None = None,
        ttl: TTLConfig | None = None,
        index_path: Path | str | None = None,
        model_id: str | None = None,
        notify: Callable[[str], None] | None = None,
        clock: Callable[[], str] = now,
    ):
        path = (
            Path(index_path)
            if index_path
            else database.connection.path.with_name(f"{database.connection.path.stem}.items.faiss")
        )
        self.database = database
        self.ttl_config = ttl
        self.clock = clock
        self._index = ItemIndex(database, path, index, model_id=model_id, notify=notify) if index else None
        self.index_config = {**index, "dims": self._index.dimensions} if index and self._index else None
        self.embeddings = self._index.embeddings if self._index else None
        self._items = Items(database, self._index.model_id if self._index else None)
        self._owned = False
        self._swept = clock()

    @classmethod
    def open(cls, path: Path | str, *, readonly: bool = False, **options: Any) -> Self:
        """The store in the file at `path`, which is made if there is none; `close` closes it. For `options` see above.

        `":memory:"` keeps everything in memory, until it is closed.
        """
        database = Database(path, readonly=readonly)
        try:
            store = cls(database, **options)
        except BaseException:
            database.close()
            raise
        store._owned = True
        return store

    @classmethod
    def of_memory(
        cls, memory: ReflectionMemory, *, fields: Sequence[str] = ("$",), notify: Callable[[str], None] | None = None
    ) -> Self:
        """The store in a memory's database, with its embedder and its clock, its index beside the memory's."""
        path = memory.index.path
        return cls(
            memory.database,
            index={"embed": memory.embedder, "fields": list(fields)},
            index_path=path.with_name(f"{path.stem}.items{path.suffix}"),
            notify=notify,
            clock=memory.clock,
        )

    # LangGraph's two calls, on which `get`, `search`, `put`, `delete`, `list_namespaces` and their like rest

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do all of `ops` and return their results in this order; a write gives None."""
        work = self._prepared(ops)
        if self._index:
            work.queries = self._index.queries(work.questions)
            work.documents = self._index.documents(work.texts)
        return self._done(work)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """See `batch`. Neither the embedder nor the database holds up the event loop."""
        work = self._prepared(ops)
        if self._index:
            work.queries = await self._index.aqueries(work.questions)
            work.documents = await self._index.adocuments(work.texts)
        return await asyncio.to_thread(self._done, work)

    # Housekeeping

    def sweep_ttl(self) -> int:
        """Delete what has expired; return how many items that were."""
        self._swept = self.clock()
        with self.database.transaction():
            return self._items.delete_expired(self._swept)

    def close(self) -> None:
        """Write the index, and close the database if `open` opened it. Closing twice is allowed."""
        if self._index:
            self._index.save()
        if self._owned:
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # A batch, step by step

    def _prepared(self, ops: Iterable[Op]) -> _Work:
        """What is to be done, checked before anything is."""
        work = _Work(list(ops))
        for op in work.ops:
            validate_op_namespace(op)
            if isinstance(op, PutOp):
                place = tuple(op.namespace), str(op.key)
                work.puts.pop(place, None)
                work.puts[place] = self._put(op)
            elif isinstance(op, SearchOp):
                if self._index and op.query:
                    work.questions.append(op.query)
            elif not isinstance(op, (GetOp, ListNamespacesOp)):
                raise ValueError(f"A store does not know the operation {type(op).__name__}.")
        work.questions = list(dict.fromkeys(work.questions))
        work.texts = [text for put in work.puts.values() if put for text in put.texts]
        return work

    def _put(self, op: PutOp) -> _Put | None:
        if op.value is None:
            return None
        value, encoded = checked_value(op.value)
        return _Put(encoded, self._index.texts(value, op.index) if self._index else [], checked_ttl(op.ttl))

    def _done(self, work: _Work) -> list[Result]:
        at = self.clock()
        if work.questions and self._index:
            work.mark = self._index.follow()
        results: list[Result] = []
        read: list[Row] = []
        for op in work.ops:
            rows: list[Row] = []
            if isinstance(op, GetOp):
                row = self._items.get(op.namespace, str(op.key), at)
                results.append(_item(row) if row else None)
                rows = [row] if row else []
            elif isinstance(op, SearchOp):
                first = max(op.offset, 0)
                hits = list(islice(self._hits(op, work, at), first, first + max(op.limit, 0)))
                results.append([_search_item(row, score) for row, score in hits])
                rows = [row for row, _ in hits]
            elif isinstance(op, ListNamespacesOp):
                results.append(self._namespaces(op, at))
            else:
                results.append(None)
            read += [row for row in rows if row.ttl is not None and getattr(op, "refresh_ttl", False)]
        if read and not self.database.connection.readonly:
            with self.database.transaction():
                self._items.refresh([row.number for row in read], at)
        if work.puts:
            self._write(work, at)
        return results

    def _write(self, work: _Work, at: str) -> None:
        with self.database.transaction():
            for (namespace, key), put in work.puts.items():
                if put is None:
                    self._items.delete(namespace, key)
                else:
                    self._items.put(namespace, key, put.value, put.texts, put.ttl, at)
            # After the deletions, which may have dropped the vector of a text that is now written elsewhere.
            if self._index and work.documents:
                self.database.vectors.put(self._index.model_id, work.documents)
        interval = (self.ttl_config or {}).get("sweep_interval_minutes")
        if interval and _minutes(self._swept, at) >= interval:
            self.sweep_ttl()

    # Searching

    def _hits(self, op: SearchOp, work: _Work, at: str) -> Iterator[tuple[Row, float | None]]:
        """All that `op` finds, the best first, computed as it is asked for."""
        ranked = op.query in work.queries
        if ranked:
            yield from self._ranked(op, work, at)
        page = PAGE if op.filter else max(1, op.offset + op.limit)
        for row in self._items.walk(op.namespace_prefix, at, page=page, textless=ranked):
            if not op.filter or fits(json.loads(row.value), op.filter):
                yield row, None

    def _ranked(self, op: SearchOp, work: _Work, at: str) -> Iterator[tuple[Row, float]]:
        assert self._index is not None and op.query is not None
        only = self._items.numbers(op.namespace_prefix, FEW + 1) if op.namespace_prefix else None
        if only is not None and len(only) > FEW:
            only = None
        seen: set[int] = set()
        for portion in self._index.nearest(work.queries[op.query], op.offset + op.limit, only):
            for start in range(0, len(portion), PAGE):
                part = portion[start : start + PAGE]
                owners = self._items.owners([number for number, _ in part], op.namespace_prefix, at, work.mark)
                for number, score in part:
                    # The first text of an item that comes up is its best.
                    row = owners.get(number)
                    if row and row.number not in seen:
                        seen.add(row.number)
                        if not op.filter or fits(json.loads(row.value), op.filter):
                            yield row, score

    def _namespaces(self, op: ListNamespacesOp, at: str) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        begin = next((condition.path for condition in conditions if condition.match_type == "prefix"), ())
        found = self._items.namespaces(list(takewhile(lambda label: label != "*", begin)), at)
        shown = {path[: op.max_depth] for path in found if all(matches(condition, path) for condition in conditions)}
        return sorted(shown)[op.offset : op.offset + op.limit]


@dataclass(slots=True)
class _Put:
    """A write: its value as JSON, the texts by which it is found, the time to live in minutes."""

    value: str
    texts: list[str]
    ttl: float | None


@dataclass(slots=True)
class _Work:
    """A batch on its way: what was asked, what is to be embedded for it, and then the vectors."""

    ops: list[Op]
    puts: dict[tuple[tuple[str, ...], str], _Put | None] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    queries: dict[str, np.ndarray] = field(default_factory=dict)
    documents: dict[str, np.ndarray] = field(default_factory=dict)
    mark: int = 0


def matches(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    """Whether `namespace` begins (or ends) as `condition` says, in which `*` stands for any one label."""
    path = condition.path
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"A namespace is matched by 'prefix' or 'suffix', not by '{condition.match_type}'.")
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :] if path else ()
    return len(part) == len(path) and all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))


def _item(row: Row) -> Item:
    return Item(**_fields(row))


def _search_item(row: Row, score: float | None) -> SearchItem:
    return SearchItem(**_fields(row), score=score)


def _fields(row: Row) -> dict[str, Any]:
    return {
        "namespace": row.path,
        "key": row.key,
        "value": json.loads(row.value),
        "created_at": datetime.fromisoformat(row.created_at),
        "updated_at": datetime.fromisoformat(row.updated_at),
    }


def _minutes(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)) / timedelta(minutes=1)
