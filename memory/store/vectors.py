"""The table of vectors that were computed once, so that no text is embedded twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memory.store.connection import Connection
from memory.store.sql import chunks, marks

if TYPE_CHECKING:
    import numpy as np


class Vectors:
    """The repository of vectors (float32, one dimension), by model and by the SHA-256 of the text."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, model: str, shas: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors that `model` gave for texts with these SHA-256, as far as known."""
        import numpy as np

        found: dict[str, np.ndarray] = {}
        for part in chunks(shas):
            rows = self.connection.execute(
                f"SELECT sha, vector FROM vectors WHERE model = ? AND sha IN {marks(part)}", [model, *part]
            )
            found.update((sha, np.frombuffer(blob, dtype="<f4")) for sha, blob in rows)
        return found

    def put(self, model: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep what `model` gave for texts, by the SHA-256 of each."""
        self.connection.executemany(
            "INSERT INTO vectors (model, sha, vector) VALUES (?, ?, ?) "
            "ON CONFLICT(model, sha) DO UPDATE SET vector = excluded.vector",
            [(model, sha, vector.astype("<f4").tobytes()) for sha, vector in vectors.items()],
        )
