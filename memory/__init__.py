"""What was lived and what was learned from it."""

from memory.database import Database

__all__ = ["Database"]
