"""Search by words: BM25 over the places of every word, which SQLite's FTS5 keeps in step with the texts.

The ranking is done here rather than by FTS5's own `bm25()`, for two reasons. What is written later must not change what
an earlier moment would have found: a run that is resumed recalls what an unbroken one does. And a word that half of a
million texts contain must cost no more than a rare one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from memory.cleaning import clean
from memory.database import Database
from memory.episodes import chunks
from memory.kept import Kept, Shelf, Shelves
from memory.reflections import Filter

if TYPE_CHECKING:
    import numpy as np

K1, B = 1.2, 0.75
"""How soon more of the same word counts no more, and how far a long text is marked down (Robertson et al. 1994)."""

LEVELS = (128, 512, 2048)
"""How often a word may occur to be looked at: the rare ones first, the next level only if too few texts were found."""

DENSE = 128
"""Up to so many numbers for each that is there, they lie close to each other."""

MOST_STEMS = 128
"""How many different words of a query count."""


class Places(NamedTuple):
    """Where a word stands.

    Attributes:
        numbers: of the texts that have it, rising (int64).
        times: how often each of them has it.
        places: the sum of `times`.
        texts: in how many texts of all it stands, as far as that is known.
    """

    numbers: np.ndarray
    times: np.ndarray
    places: int
    texts: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Places:
        """What these numbers say, which rise, each as often as its text has the word."""
        import numpy as np

        times = Counter(numbers)
        texts, counts = np.fromiter(times, np.int64, len(times)), np.fromiter(times.values(), np.int64, len(times))
        return cls(texts, counts, len(numbers), len(texts))

    def until(self, newest: int) -> Places:
        """Those in the texts up to `newest`."""
        import numpy as np

        if not len(self.numbers) or self.numbers[-1] <= newest:
            return self
        end = int(np.searchsorted(self.numbers, newest, side="right"))
        return Places(self.numbers[:end], self.times[:end], int(self.times[:end].sum()), end)


class Ranking(NamedTuple):
    """The numbers of texts (int64) and their BM25 (> 0), the best first; of equal ones the older first."""

    numbers: np.ndarray
    scores: np.ndarray

    @classmethod
    def nothing(cls) -> Ranking:
        """That no text was found."""
        import numpy as np

        return cls(np.empty(0, np.int64), np.empty(0))

    def among(self, numbers: Sequence[int]) -> Ranking:
        """Those of these numbers."""
        import numpy as np

        kept = np.isin(self.numbers, np.asarray(numbers, np.int64))
        return Ranking(self.numbers[kept], self.scores[kept])


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
        # Of a word that goes beyond a level: that level, and the text in which it does. Texts are added at the end, so
        # this stays true, and what is left out depends on the texts alone and not on what was asked before.
        self._beyond: dict[str, tuple[int, int]] = {}

    def search(self, text: str, count: int, filter: Filter | None = None) -> list[tuple[int, float]]:
        """The numbers of the `count` best of those that fit `filter`, with their BM25 (> 0), the best first."""
        wanted = filter or Filter()
        best: list[tuple[int, float]] = []
        ranked = self.ranked(text, count, wanted.before)
        for part in chunks(list(zip(ranked.numbers.tolist(), ranked.scores.tolist(), strict=True)), 2 * count):
            fitting = set(self.database.reflection_numbers(wanted, [number for number, _ in part]))
            best += [item for item in part if item[0] in fitting]
            if len(best) >= count:
                break
        return best[:count]

    def ranked(self, text: str, count: int, before: str | None = None, *, shelves: Shelves | None = None) -> Ranking:
        """All texts that were looked at for the sake of `count`; `shelves` is what is kept at the moment of the recall.

        Any `text` will do; one without words finds nothing. How rare a word is and how long a text is are taken from
        the texts written before `before`; what was written later is left out.
        """
        stems = stems_of(text)[:MOST_STEMS]
        # The newest by moment, places by word and level, and the lengths. Threads share it, and each holds its own.
        read = (self._kept.shelves() if shelves is None else shelves).shelf("words", 4000)
        newest = read.get(("newest", before))
        if newest is None:
            newest = read["newest", before] = self.database.newest_reflection(before)
        if not stems or not newest or count < 1:
            return Ranking.nothing()
        if not self._viewed:
            # A view of FTS5's places, which holds nothing. It is this connection's own: readers can have it as well.
            self.database.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS temp.reflection_places "
                "USING fts5vocab(main, reflection_words, instance)"
            )
            self._viewed = not self.database.in_transaction
        return self._ranked(read, self._places(read, stems, newest, count), newest)

    def _places(self, read: Shelf, stems: list[str], newest: int, count: int) -> list[Places]:
        """The words of the query that are looked at."""
        found: list[Places] = []
        waiting = stems
        for level in LEVELS:
            beyond = []
            # Several in one go, but no more places than are looked at in all.
            for part in chunks(waiting, LEVELS[-1] // level):
                self._read(read, [stem for stem in part if not self._known_beyond(stem, level, newest)], level + 1)
                for stem in part:
                    places = self._of(read, stem, level, newest)
                    if places is None:
                        beyond.append(stem)
                    elif places.places:
                        found.append(places)
                    if sum(one.places for one in found) >= LEVELS[-1]:
                        return _telling(found, newest)
            waiting = beyond
            if not waiting or _texts(found, count) >= count:
                break
        if not found and waiting:
            # The rarest is the one that took the longest to go beyond the level: it is about as rare further on.
            rarest = self._occurrences(read, max(waiting, key=lambda stem: self._beyond[stem][1]), LEVELS[-1])
            return [rarest._replace(texts=min(newest, rarest.texts * newest // int(rarest.numbers[-1])))]
        return _telling(found, newest)

    def _of(self, read: Shelf, stem: str, level: int, newest: int) -> Places | None:
        """The places of a word in the texts up to `newest`, or None if there are more than `level`."""
        if self._known_beyond(stem, level, newest):
            return None
        places = self._occurrences(read, stem, level + 1)
        if places.places > level:
            last = int(places.numbers[-1])
            self._beyond[stem] = (level, last)
            if last <= newest:
                return None
        return places.until(newest)

    def _known_beyond(self, stem: str, level: int, newest: int) -> bool:
        """Whether a word is known to have more than `level` places in the texts up to `newest`."""
        reached, text = self._beyond.get(stem, (0, 0))
        return reached >= level and text <= newest

    def _occurrences(self, read: Shelf, stem: str, limit: int) -> Places:
        self._read(read, [stem], limit)
        places: Places = read[stem, limit]
        return places

    def _read(self, read: Shelf, stems: list[str], limit: int) -> None:
        """Read the places of all words that were not read up to this limit yet, in one go."""
        found: dict[str, list[int]] = {stem: [] for stem in stems if (stem, limit) not in read}
        if not found:
            return
        of_one = "SELECT * FROM (SELECT ?, doc FROM temp.reflection_places WHERE term = ? LIMIT ?)"
        rows = self.database.execute(
            " UNION ALL ".join([of_one] * len(found)), [value for stem in found for value in (stem, stem, limit)]
        )
        for stem, doc in rows:
            found[stem].append(doc)
        read.update(((stem, limit), Places.of(numbers)) for stem, numbers in found.items())

    def _ranked(self, read: Shelf, words: list[Places], newest: int) -> Ranking:
        """The texts with their BM25, the best first. Lengths are compared with the mean of these texts, not of all."""
        import numpy as np

        if not words:
            return Ranking.nothing()
        every = np.concatenate([word.numbers for word in words])
        times = np.concatenate([word.times for word in words])
        numbers, at = _unique(every)
        lengths = self._lengths(read, numbers)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
        in_texts = np.asarray([word.texts for word in words], float)
        # With 1 added, so that a word of most texts still counts for something rather than against them.
        rarity = np.log1p((newest - in_texts + 0.5) / (in_texts + 0.5))
        rarities = np.repeat(rarity, [len(word.numbers) for word in words])
        scores = np.bincount(at, rarities * times * (K1 + 1) / (times + norm[at]))
        # The numbers rise: a stable order leaves equals by number.
        order = np.argsort(-scores, kind="stable")
        return Ranking(numbers[order], scores[order])

    def _lengths(self, read: Shelf, numbers: np.ndarray) -> np.ndarray:
        """How many words each of these texts has, which stand in ascending order."""
        import numpy as np

        known = read.get("lengths", np.zeros(0))
        if len(known) <= numbers[-1]:
            # Those that are not known yet are 0: whatever was found has a word.
            known = read["lengths"] = np.pad(known, (0, int(numbers[-1]) + 1 - len(known)))
        new = numbers[known[numbers] == 0].tolist()
        if new:
            rows = self.database.execute(
                "SELECT id, sz FROM reflection_words_docsize WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(new),),
            )
            for number, size in rows:
                known[number] = _varint(size)
        return known[numbers]


def _texts(found: list[Places], count: int) -> int:
    """In how many texts these words stand, or, if it is at least `count`, a number that is so too."""
    import numpy as np

    most, least = sum(word.texts for word in found), max((word.texts for word in found), default=0)
    return (
        least if least >= count or most < count else len(_unique(np.concatenate([word.numbers for word in found]))[0])
    )


def _unique(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones of these numbers (>= 0), which rise, and for each number its place among them."""
    import numpy as np

    most = int(numbers.max()) + 1
    if most > DENSE * len(numbers):
        return np.unique(numbers, return_inverse=True)
    # Where they lie close to each other, marking them is quicker than sorting them.
    marked = np.zeros(most, bool)
    marked[numbers] = True
    found = np.flatnonzero(marked)
    places = np.empty(most, np.int64)
    places[found] = np.arange(len(found))
    return found, places[numbers]


def _telling(found: list[Places], newest: int) -> list[Places]:
    """What was found without the words of more than half of the texts, which tell nothing; but the rarest stays."""
    words = sorted(found, key=lambda word: word.texts)
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
            new = [part for part in dict.fromkeys(parts) if part not in self._known and not _is_number(part)]
            if len(self._known) + len(new) > self.MOST:
                self._known, new = {}, [part for part in dict.fromkeys(parts) if not _is_number(part)]
            if new:
                self._known.update(zip(new, self._read(new), strict=True))
            return [(part,) if _is_number(part) else self._known[part] for part in parts]

    def _read(self, parts: Sequence[str]) -> list[tuple[str, ...]]:
        self._connection.execute(
            "INSERT INTO words (rowid, text) SELECT key, value FROM json_each(?)", (json.dumps(parts),)
        )
        found: list[list[str]] = [[] for _ in parts]
        for part, stem in self._connection.execute("SELECT doc, term FROM terms ORDER BY doc, offset"):
            found[part].append(stem)
        self._connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
        return [tuple(stems) for stems in found]


def _is_number(part: str) -> bool:
    """True for a word that is its own stem. There are too many numbers to look each of them up."""
    return part.isascii() and part.isdigit()


@cache
def _stemmer() -> _Stemmer:
    return _Stemmer()


def _varint(size: bytes) -> int:
    """SQLite's variable-length integer: seven bits a byte, the highest first."""
    value = 0
    for byte in size:
        value = value << 7 | byte & 0x7F
    return value
