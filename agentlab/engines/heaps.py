"""One heap for the tensors of all threads."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8
"""By its number in malloc.h."""


def share_one_heap() -> None:
    """Have glibc's malloc keep one heap for all threads from now on; elsewhere nothing happens.

    Whichever episode's thread asks for a pass reads for all of them. With a heap for each thread, what the tensors of a
    pass leave there is kept as often as there are threads, and sixteen episodes of a small model fill gigabytes.
    """
    with suppress(AttributeError, OSError, TypeError):  # Windows wants a name
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
