"""Search by words: Okapi BM25 (Robertson et al. 1994), as SQLite's FTS5 computes it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from memory import errors
from memory.store.database import Database
from memory.store.filters import EVERYTHING, Filter
from memory.store.words import texts_indexed
from memory.text.cleaning import clean
from memory.text.segmentation import TOKENIZER, phrases, segmented

MOST_WORDS = 128
"""How many different words of a query count, the rarest ones."""
PAGE = 16384
"""How many texts are read at once."""

Execute = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class BM25:
    """Ranks reflections by the words of their texts.

    What is found before a moment depends on the texts that were there at that moment alone, in the rarity of words
    too: a run that is resumed recalls what an unbroken one does. Where later texts are in the table of the database,
    or where a reader finds that table missing or damaged, the same is made in memory of the texts themselves.
    """

    def __init__(self, database: Database):
        self.database = database
        self._lock = threading.Lock()
        self._snapshot: _Snapshot | None = None
        # A writer has seen to it when it opened the file.
        self._sound = not database.connection.readonly or texts_indexed(database.connection.execute)

    def search(self, text: str, count: int, wanted: Filter = EVERYTHING) -> list[tuple[int, float]]:
        """The `count` best of those that are `wanted`: (number, BM25 > 0), the best first, of equals the older.

        Any `text` will do; one without words finds nothing.
        """
        words = phrases(clean(text))
        newest = None if wanted.before is None else self.database.reflections.newest(wanted.before)
        if not words or newest == 0 or count < 1:
            return []
        if not wanted.narrow:
            found = self._ranked(words, 2 * count, newest)
            fitting = set(self.database.reflections.numbers(wanted, [number for number, _ in found]))
            first = [item for item in found if item[0] in fitting][:count]
            if len(first) == count or len(found) < 2 * count:
                return first
        return self._ranked(words, count, newest, self.database.reflections.numbers(wanted))

    def texts_with(self, word: str) -> int:
        """In how many texts a word stands, in any form."""
        asked = " AND ".join(phrases(word))
        return int(self._in(None, lambda execute: _count(execute, asked)))

    def _ranked(
        self, words: list[str], count: int, newest: int | None, only: list[int] | None = None
    ) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = self._in(newest, lambda execute: best(execute, words, count, only))
        return found

    def _in(self, newest: int | None, ask: Callable[[Execute], Any]) -> Any:
        """What `ask` answers from the texts up to `newest`, or from all."""
        latest = self.database.reflections.newest
        if self._sound and newest in (None, latest()):
            found = self._in_database(ask)
            # Unless something was written meanwhile.
            if self._sound and newest in (None, latest()):
                return found
        if newest is None:
            newest = latest()
        if self.database.connection.in_transaction:
            # What is not committed may be taken back, and who has it must not wait for others, who wait for it.
            return ask(_Snapshot(self.database, newest).followed())
        with self._lock:
            if self._snapshot is None or self._snapshot.newest != newest:
                self._snapshot = _Snapshot(self.database, newest)
            return ask(self._snapshot.followed())

    def _in_database(self, ask: Callable[[Execute], Any]) -> Any:
        try:
            return ask(self.database.connection.execute)
        except errors.DamagedDatabase:
            self._sound = not self.database.connection.readonly
            if self._sound:
                self.database.connection.index_texts()
                return ask(self.database.connection.execute)


class _Snapshot:
    """The texts of the reflections up to one number, in an FTS5 table in memory."""

    def __init__(self, database: Database, newest: int):
        self.database = database
        self.newest = newest
        self._mark = -1
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.execute(f"CREATE VIRTUAL TABLE reflections_fts USING fts5(text, tokenize='{TOKENIZER}')")

    def followed(self) -> Execute:
        """Take over what was changed, and run statements from then on."""
        while True:
            rows = self.database.reflections.texts_after(self._mark, self.newest, PAGE)
            if rows:
                self._connection.execute("BEGIN")
                self._connection.executemany(
                    "INSERT OR REPLACE INTO reflections_fts (rowid, text) VALUES (?, ?)",
                    [(number, segmented(text)) for _, number, text in rows if text],
                )
                self._connection.executemany(
                    "DELETE FROM reflections_fts WHERE rowid = ?", [(number,) for _, number, text in rows if not text]
                )
                self._connection.execute("COMMIT")
                self._mark = rows[-1][0]
            if len(rows) < PAGE:
                return self._execute

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()


def best(execute: Execute, words: list[str], count: int, only: list[int] | None = None) -> list[tuple[int, float]]:
    """The `count` texts of the highest BM25 for these FTS5 strings, `only` among these numbers: (number, score).

    FTS5 gives a word of half of the texts or more a weight of 10⁻⁶. Such a word costs most to read: it is left out as
    long as the others find enough.
    """
    ((texts,),) = execute("SELECT count(*) FROM reflections_fts_docsize", ())
    counts = {word: n for word in words if (n := _count(execute, word))}
    rare = sorted(counts, key=counts.__getitem__)[:MOST_WORDS]
    telling = [word for word in rare if 2 * counts[word] < texts]
    among = "" if only is None else "AND +rowid IN (SELECT value FROM json_each(?)) "
    values = [] if only is None else [json.dumps(only)]
    found: list[tuple[int, float]] = []
    for asked in dict.fromkeys((len(telling), len(rare))):
        if asked and len(found) < count:
            found = execute(
                "SELECT rowid, -bm25(reflections_fts) AS score FROM reflections_fts WHERE reflections_fts MATCH ? "
                f"{among}ORDER BY score DESC, rowid LIMIT ?",
                [" OR ".join(rare[:asked]), *values, count],
            )
    return found


def _count(execute: Execute, word: str) -> int:
    """In how many texts an FTS5 string stands."""
    return int(execute("SELECT count(*) FROM reflections_fts WHERE reflections_fts MATCH ?", (word,))[0][0])
