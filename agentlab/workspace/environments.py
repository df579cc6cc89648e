"""Environments by the names that a workspace knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory import Database


def environment(given: str | None, database: Database) -> str | None:
    """`given` in its canonical form, as it stands in the database.

    Environments of one's own are registered by one's own programs, not here: one that the lab has episodes of is known.

    Raises:
        UnknownEnvironment: with the nearest id.
    """
    if given is None:
        return None
    from environments.errors import UnknownEnvironment
    from environments.registry import canonical
    from memory.store import EpisodeFilter

    try:
        return canonical(given)
    except UnknownEnvironment:
        if database.episodes.find(EpisodeFilter(env=given), limit=1):
            return given
        raise
