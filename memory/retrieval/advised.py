"""Which states are compared with the one that an agent is in: those on which somebody gives advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.store.database import Database
from memory.store.filters import Filter

if TYPE_CHECKING:
    import numpy as np


class AdvisedStates:
    """The states whose advice fits a filter: the same at each step of an episode, as long as nothing is written.

    Of a memory of many environments only those of one are then compared.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._key: tuple[Any, ...] | None = None
        self._states: np.ndarray | None = None

    def of(self, wanted: Filter) -> np.ndarray:
        """The numbers of the states: int64, (n,)."""
        import numpy as np

        condition, values = wanted.sql()
        key = (self.database.reflections.last_change(), condition, *values)
        if self._states is None or key != self._key or self.database.connection.in_transaction:
            self._states = np.asarray(self.database.reflections.advised_states(wanted), np.int64)
            # What is not committed may be taken back, and its mark be given to something else.
            self._key = None if self.database.connection.in_transaction else key
        return self._states
