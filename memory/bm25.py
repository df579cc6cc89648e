"""Search by words: Okapi BM25 (Robertson et al. 1994) as SQLite's FTS5 computes it, of the best without reading all."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from memory import errors, schema
from memory.cleaning import clean
from memory.database import Database
from memory.reflections import Filter
from memory.segmentation import TOKENIZER, phrases, segmented

K1 = 1.2
"""FTS5's k₁: the same word again and again comes to at most K1 + 1 times its rarity."""
LEAST = 1e-6
"""FTS5's rarity of a word that stands in half of all texts or more."""
MOST_WORDS = 128
"""How many different words of a query count, the rarest ones."""
FEW = 4096
"""Words that come to so many places in all are looked at first, then those that come to `MORE` times as many."""
MORE = 8
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
        self._sound = not database.readonly or schema.texts_indexed(database.execute)

    def search(self, text: str, count: int, filter: Filter | None = None) -> list[tuple[int, float]]:
        """The `count` best of those that fit `filter`: (number, BM25 > 0), the best first, of equals the older.

        Any `text` will do; one without words finds nothing.
        """
        wanted = filter or Filter()
        words = phrases(clean(text))
        newest = self.database.newest_reflection(wanted.before)
        if not words or not newest or count < 1:
            return []
        if not wanted.narrow:
            found = self._ranked(words, 2 * count, newest)
            fitting = set(self.database.reflection_numbers(wanted, [number for number, _ in found]))
            best = [item for item in found if item[0] in fitting][:count]
            if len(best) == count or len(found) < 2 * count:
                return best
        return self._ranked(words, count, newest, self.database.reflection_numbers(wanted))

    def texts_with(self, word: str) -> int:
        """In how many texts a word stands, in any form."""
        newest = self.database.newest_reflection()
        asked = " AND ".join(phrases(word))
        return int(self._in(newest, lambda execute: _count(execute, asked)))

    def _ranked(
        self, words: list[str], count: int, newest: int, only: list[int] | None = None
    ) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = self._in(newest, lambda execute: best(execute, words, count, only))
        return found

    def _in(self, newest: int, ask: Callable[[Execute], Any]) -> Any:
        """What `ask` answers from the texts up to `newest`."""
        latest = self.database.newest_reflection
        if self._sound and latest() == newest:
            found = self._in_database(ask)
            # Unless something was written meanwhile.
            if self._sound and latest() == newest:
                return found
        if self.database.in_transaction:
            # What is not committed may be taken back, and who has it must not wait for others, who wait for it.
            return ask(_Snapshot(self.database, newest).followed())
        with self._lock:
            if self._snapshot is None or self._snapshot.newest != newest:
                self._snapshot = _Snapshot(self.database, newest)
            return ask(self._snapshot.followed())

    def _in_database(self, ask: Callable[[Execute], Any]) -> Any:
        try:
            return ask(self.database.execute)
        except errors.DamagedDatabase:
            self._sound = not self.database.readonly
            if self._sound:
                self.database.index_texts()
                return ask(self.database.execute)


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
            rows = self.database.execute(
                "SELECT changed, number, text FROM reflections WHERE changed > ? AND number <= ? "
                "ORDER BY changed LIMIT ?",
                (self._mark, self.newest, PAGE),
            )
            if rows:
                self._connection.execute("BEGIN")
                self._connection.executemany(
                    "INSERT OR REPLACE INTO reflections_fts (rowid, text) VALUES (?, ?)",
                    [(number, segmented(text)) for _, number, text in rows],
                )
                self._connection.execute("COMMIT")
                self._mark = rows[-1][0]
            if len(rows) < PAGE:
                return self._execute

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()


def best(execute: Execute, words: list[str], count: int, only: list[int] | None = None) -> list[tuple[int, float]]:
    """The `count` texts of the highest BM25 for these FTS5 strings, `only` among these numbers: (number, score).

    They are those that FTS5 finds with all words. But BM25 is computed only of texts that have one of the rarer words,
    if the others together could not lift a text among the best (MaxScore; Turtle and Flood 1995).
    """
    texts = int(execute("SELECT count(*) FROM reflections_fts_docsize", ())[0][0])
    counts = {word: n for word in words if (n := _count(execute, word))}
    rare = sorted(counts, key=counts.__getitem__)[:MOST_WORDS]
    rarity = [max(LEAST, math.log((texts - counts[word] + 0.5) / (counts[word] + 0.5))) for word in rare]
    telling = sum(value > LEAST for value in rarity)
    places = list(accumulate(counts[word] for word in rare[:telling]))
    among = "" if only is None else "AND +rowid IN (SELECT value FROM json_each(?)) "
    values = [] if only is None else [json.dumps(only)]
    found: list[tuple[int, float]] = []
    for needed in sorted({bisect(places, FEW), bisect(places, MORE * FEW), telling, len(rare)} - {0}):
        scored = max(needed, telling)
        some = "AND +rowid IN (SELECT rowid FROM reflections_fts WHERE reflections_fts MATCH ?) "
        found = execute(
            "SELECT rowid, -bm25(reflections_fts) AS score FROM reflections_fts WHERE reflections_fts MATCH ? "
            f"{among}{some if needed < scored else ''}ORDER BY score DESC, rowid LIMIT ?",
            [" OR ".join(rare[:scored]), *values, *([" OR ".join(rare[:needed])] if needed < scored else []), count],
        )
        if len(found) == count and found[-1][1] >= (K1 + 1) * sum(rarity[needed:]):
            break
    return found


def _count(execute: Execute, word: str) -> int:
    """In how many texts an FTS5 string stands."""
    return int(execute("SELECT count(*) FROM reflections_fts WHERE reflections_fts MATCH ?", (word,))[0][0])
