"""Which states are compared with the one that an agent is in: those on which somebody gives advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.store.database import Database
from memory.store.filters import Filter

if TYPE_CHECKING:
    import numpy as np


KEPT = 8
"""The states of so many filters are at hand: those of a step ask with what is on probation and without."""


class AdvisedStates:
    """The states whose advice fits a filter: the same at each step of an episode, as long as nothing is written.

    Of a memory of many environments only those of one are then compared.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._change: int | None = None
        self._states: dict[tuple[Any, ...], np.ndarray] = {}

    def of(self, wanted: Filter) -> np.ndarray:
        """The numbers of the states: int64, (n,)."""
        import numpy as np

        condition, values = wanted.sql()
        key, change = (condition, *values), self.database.reflections.last_change()
        # What is not committed may be taken back, and its mark be given to something else.
        if change != self._change or self.database.connection.in_transaction:
            self._states.clear()
            self._change = None if self.database.connection.in_transaction else change
        if key not in self._states:
            if len(self._states) >= KEPT:
                self._states.clear()
            self._states[key] = np.asarray(self.database.reflections.advised_states(wanted), np.int64)
        return self._states[key]
