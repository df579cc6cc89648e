"""Search by words: BM25 over the places of every word, which SQLite's FTS5 keeps in step with the texts.

The ranking is done here rather than by FTS5's own `bm25()`, for two reasons. What is written later must not change what
an earlier moment would have found: a run that is resumed recalls what an unbroken one does. And a word that half of a
million texts contain must cost no more than a rare one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from memory.cleaning import clean
from memory.database import Database
from memory.episodes import chunks
from memory.kept import Kept
from memory.reflections import Filter

if TYPE_CHECKING:
    import numpy as np

K1, B = 1.2, 0.75
"""How soon more of the same word counts no more, and how far a long text is marked down (Robertson et al. 1994)."""

LEVELS = (128, 512, 2048)
"""How often a word may occur to be looked at: the rare ones first, the next level only if too few texts were found."""

MOST_STEMS = 128
"""How many different words of a query count."""


class Places(NamedTuple):
    """Where a word stands: the numbers of its texts, as often as it occurs in them; and in how many texts of all."""

    numbers: list[int]
    texts: int


class Words:
    """Finds reflections by the words of their texts.

    It reads a bounded number of places, however many texts there are: of each word at most those of the level that it
    is looked at. Words beyond the last level are left out, since what is in very many texts tells little; if all words
    are such, the rarest stands for them, in the oldest of its texts. Which words are common is learned once per object.
    """

    def __init__(self, database: Database, kept: Kept | None = None):
        self.database = database
        self._kept = kept or Kept(database)
        self._viewed = False
        self._occurring: dict[tuple[str, int], list[int]] = {}
        # Of a word that goes beyond a level: that level, and the text in which it does. Texts are added at the end, so
        # this stays true, and what is left out depends on the texts alone and not on what was asked before.
        self._beyond: dict[str, tuple[int, int]] = {}

    def search(self, text: str, count: int, filter: Filter | None = None) -> list[tuple[int, float]]:
        """The numbers of the `count` best of those that fit `filter`, with their BM25 (> 0), the best first."""
        wanted = filter or Filter()
        best: list[tuple[int, float]] = []
        for part in chunks(self.ranked(text, count, wanted.before), 2 * count):
            fitting = set(self.database.reflection_numbers(wanted, [number for number, _ in part]))
            best += [item for item in part if item[0] in fitting]
            if len(best) >= count:
                break
        return best[:count]

    def ranked(self, text: str, count: int, before: str | None = None) -> list[tuple[int, float]]:
        """All texts that were looked at for the sake of `count`, with their BM25 (> 0), the best first.

        Any `text` will do; one without words finds nothing. Equal scores stand by number, the older first. How rare a
        word is and how long a text is are taken from the texts written before `before`; what was written later is left
        out.
        """
        stems = stems_of(text)[:MOST_STEMS]
        newest = self.database.newest_reflection(before)
        if not stems or not newest or count < 1:
            return []
        self._occurring = self._kept.shelf("places", 4000)
        if not self._viewed:
            # A view of FTS5's places, which holds nothing. It is this connection's own: readers can have it as well.
            self.database.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.reflection_places "
                "USING fts5vocab(main, reflection_words, instance)"
            )
            self._viewed = not self.database.in_transaction
        return self._ranked(self._places(stems, newest, count), newest)

    def _places(self, stems: list[str], newest: int, count: int) -> list[Places]:
        """The words of the query that are looked at."""
        found: dict[str, list[int]] = {}
        texts: set[int] = set()
        waiting = stems
        for level in LEVELS:
            beyond = []
            for stem in waiting:
                numbers = self._read(stem, level, newest)
                if numbers is None:
                    beyond.append(stem)
                elif numbers:
                    found[stem] = numbers
                    texts.update(numbers)
                if sum(map(len, found.values())) >= LEVELS[-1]:
                    return _telling(found, newest)
            waiting = beyond
            if not waiting or len(texts) >= count:
                break
        if not found and waiting:
            # The rarest is the one that took the longest to go beyond the level: it is about as rare further on.
            rarest = max(waiting, key=lambda stem: self._beyond[stem][1])
            numbers = self._occurrences(rarest, LEVELS[-1])
            return [Places(numbers, min(newest, len(set(numbers)) * newest // numbers[-1]))]
        return _telling(found, newest)

    def _read(self, stem: str, level: int, newest: int) -> list[int] | None:
        """The places of a word in the texts up to `newest`, or None if there are more than `level`."""
        reached, text = self._beyond.get(stem, (0, 0))
        if reached >= level and text <= newest:
            return None
        numbers = self._occurrences(stem, level + 1)
        if len(numbers) > level:
            self._beyond[stem] = (level, numbers[-1])
            if numbers[-1] <= newest:
                return None
        return [number for number in numbers if number <= newest]

    def _occurrences(self, stem: str, limit: int) -> list[int]:
        known = self._occurring
        if (stem, limit) not in known:
            rows = self.database.execute("SELECT doc FROM temp.reflection_places WHERE term = ? LIMIT ?", (stem, limit))
            known[stem, limit] = [row[0] for row in rows]
        return known[stem, limit]

    def _ranked(self, words: list[Places], newest: int) -> list[tuple[int, float]]:
        """The texts with their BM25, the best first. Lengths are compared with the mean of these texts, not of all."""
        import numpy as np

        if not words:
            return []
        # Each place as one number that names text and word, so that equal ones are counted in one go.
        count = len(words)
        texts = np.asarray([number for word in words for number in word.numbers], np.int64)
        places = texts * count + np.repeat(np.arange(count), [len(word.numbers) for word in words])
        pairs, times = np.unique(places, return_counts=True)
        numbers, at = np.unique(pairs // count, return_inverse=True)
        lengths = self._lengths(numbers)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
        in_texts = np.asarray([word.texts for word in words], float)
        # With 1 added, so that a word of most texts still counts for something rather than against them.
        rarity = np.log1p((newest - in_texts + 0.5) / (in_texts + 0.5))
        scores = np.bincount(at, rarity[pairs % count] * times * (K1 + 1) / (times + norm[at]))
        order = np.lexsort((numbers, -scores))
        return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))

    def _lengths(self, numbers: np.ndarray) -> np.ndarray:
        """How many words each of these texts has, which stand in ascending order."""
        import numpy as np

        shelf = self._kept.shelf("lengths", 1)
        known = shelf.get("by number", np.zeros(0))
        if len(known) <= numbers[-1]:
            # Those that are not known yet are 0: whatever was found has a word.
            known = shelf["by number"] = np.pad(known, (0, int(numbers[-1]) + 1 - len(known)))
        new = numbers[known[numbers] == 0].tolist()
        if new:
            rows = self.database.execute(
                "SELECT id, sz FROM reflection_words_docsize WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(new),),
            )
            for number, size in rows:
                known[number] = _varint(size)
        return known[numbers]


def _telling(found: dict[str, list[int]], newest: int) -> list[Places]:
    """What was found without the words of more than half of the texts, which tell nothing; but the rarest stays."""
    words = sorted((Places(numbers, len(set(numbers))) for numbers in found.values()), key=lambda word: word.texts)
    return words[:1] + [word for word in words[1:] if 2 * word.texts <= newest]


def stems_of(text: str) -> list[str]:
    """The different words of `text` in their order, as the index of words has them: folded and stemmed.

    FTS5 itself takes them out of the text. So nothing that was typed is ever read as its query language.
    """
    return list(dict.fromkeys(stem for stems in _stemmer().stems(clean(text).split()) for stem in stems))


class _Stemmer:
    """An index of words in memory that holds some pieces of text at a time, and keeps what it made of them."""

    MOST = 20_000
    """So many pieces are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, ...]] = {}
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        # The tokenizer is that of `reflection_words` in the schema.
        for statement in (
            "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter unicode61')",
            "CREATE VIRTUAL TABLE terms USING fts5vocab(words, instance)",
        ):
            self._connection.execute(statement)

    def stems(self, parts: Sequence[str]) -> list[tuple[str, ...]]:
        """The stems of each of these, which white space parted: a word never reaches over it."""
        with self._lock:
            new = [part for part in dict.fromkeys(parts) if part not in self._known]
            if len(self._known) + len(new) > self.MOST:
                self._known, new = {}, list(dict.fromkeys(parts))
            if new:
                self._known.update(zip(new, self._read(new), strict=True))
            return [self._known[part] for part in parts]

    def _read(self, parts: Sequence[str]) -> list[tuple[str, ...]]:
        self._connection.execute(
            "INSERT INTO words (rowid, text) SELECT key, value FROM json_each(?)", (json.dumps(parts),)
        )
        found: list[list[str]] = [[] for _ in parts]
        for part, stem in self._connection.execute("SELECT doc, term FROM terms ORDER BY doc, offset"):
            found[part].append(stem)
        self._connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
        return [tuple(stems) for stems in found]


@cache
def _stemmer() -> _Stemmer:
    return _Stemmer()


def _varint(size: bytes) -> int:
    """SQLite's variable-length integer: seven bits a byte, the highest first."""
    value = 0
    for byte in size:
        value = value << 7 | byte & 0x7F
    return value
