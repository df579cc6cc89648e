"""The two indexes of a memory, of its texts and of the states that its advice speaks of, which follow the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memory.index.embedder import CachedEmbedder
from memory.index.sources import ReflectionTexts, Source, StateTexts
from memory.index.vector_index import VectorIndex
from memory.store.database import Database

Progress = Callable[[int, int], None]


class Indexes:
    """Makes and saves both, and has each hold what the database says before it is asked.

    Args:
        database: what they follow. It also knows whether a file was ever made, so that one that is gone is noticed.
        embedder: makes the vectors.
        path: the file of the texts. That of the states lies beside it (`name.states.suffix`).
        notify: is told, in a sentence, when an index had to be made again, and why.
        progress: is called with (done, total) while many texts are being embedded.

    Attributes:
        texts, states: the indexes.
    """

    def __init__(
        self,
        database: Database,
        embedder: CachedEmbedder,
        path: Path,
        *,
        notify: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.database = database
        self.embedder = embedder
        self._notify = notify
        self._progress = progress
        self._made: set[Path] = set()
        self._text_source, self._state_source = ReflectionTexts(database), StateTexts(database)
        self.texts = self._cache(path)
        self.states = self._cache(path.with_name(f"{path.stem}.states{path.suffix}"))

    def follow_texts(self) -> None:
        """Have `texts` hold what the database does."""
        self._follow(self.texts, self._text_source)

    def follow_states(self) -> None:
        """Have `states` hold what the database does."""
        self._follow(self.states, self._state_source)

    def save(self) -> None:
        """Write both files as they are."""
        self.texts.save()
        self.states.save()

    def _cache(self, path: Path) -> VectorIndex:
        """The index in this file, of which the database knows whether it was ever made."""
        made = bool(self.database.settings.get(_made(path), False))
        if made:
            self._made.add(path)
        return VectorIndex(
            path, self.embedder.model_id, self.embedder.dimensions, notify=self._notify,
            readonly=self.database.connection.readonly, expected=made,
        )  # fmt: skip

    def _follow(self, index: VectorIndex, source: Source) -> None:
        # What is not committed may be taken back; an index that had followed it would then hold what never was.
        if self.database.connection.in_transaction:
            return
        # Whoever writes holds the database first and the index then; so does whoever follows.
        with self.database.connection.held():
            index.follow(source, self._embed)
            # Not at the first look: that may have been into an empty database.
            if len(index) and not index.readonly and index.path not in self._made:
                self.database.settings.put(_made(index.path), True)
                self._made.add(index.path)

    def _embed(self, texts: Sequence[str]) -> Any:
        return self.embedder.embed(texts, progress=self._progress)


def _made(path: Path) -> str:
    return f"index made: {path.name}"
