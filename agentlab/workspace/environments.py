"""Environments by the names that a workspace knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory import Database

BROUGHT_IN: list[str] = []
"""Modules that were imported since they register environments, tools or reflectors (`--import`)."""


def environment(given: str | None, database: Database, tools: Sequence[str] = ()) -> str | None:
    """`given` in its canonical form, as it stands in the database of a workspace with these tools.

    Environments of one's own are registered by one's own programs, not here: one that the lab has episodes of is known,
    or reflections, such as the chats of those whom it serves.

    Raises:
        UnknownEnvironment: with the nearest id.
    """
    if given is None:
        return None
    from environments.errors import UnknownEnvironment
    from environments.registry import canonical
    from memory.store import EpisodeFilter, Filter

    given = with_tools(given, tools)
    try:
        return canonical(given)
    except UnknownEnvironment:
        if database.episodes.find(EpisodeFilter(env=given), limit=1) or database.reflections.find(
            Filter(env=given, status=None), limit=1
        ):
            return given
        raise


def with_tools(given: str, tools: Sequence[str]) -> str:
    """The id that a person gave, with these tools where it says nothing of any. What it says of them stays, `none` too.

    Raises BadParameter if it is no id.
    """
    return _saying(given, "+".join(tools)) if tools else given


def as_played(given: str | Sequence[str], tools: Sequence[str]) -> list[str]:
    """The ids that a person gave, each with these tools where it says nothing of any. Raises BadParameter."""
    return [with_tools(one, tools) for one in ([given] if isinstance(given, str) else given)]


def spelt_out(recorded: str, tools: Sequence[str]) -> str:
    """How a person writes the id that a record has, where these tools are added to one that says nothing of any."""
    from environments.tools.shelf import NONE

    return _saying(recorded, NONE) if tools else recorded


def _saying(env_id: str, tools: str) -> str:
    from environments.parameters import join, split_id
    from environments.tools.shelf import PARAMETER

    name, parameters = split_id(env_id)
    return env_id if PARAMETER in parameters else join(name, {**parameters, PARAMETER: tools})
