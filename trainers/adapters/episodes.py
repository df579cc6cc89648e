"""The episodes that an adapter's record names, by their environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.store import Database


def by_env(database: Database, episodes: list[str]) -> dict[str, list[str]]:
    """The ids of those of these episodes that the lab has, by environment; one that is named twice is there twice."""
    env = {row.id: row.env for row in database.episodes.rows(episodes)}
    found: dict[str, list[str]] = {name: [] for name in sorted(set(env.values()))}
    for id in episodes:
        if id in env:
            found[env[id]].append(id)
    return found
