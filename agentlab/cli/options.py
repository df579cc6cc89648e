"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memory import Database

LabFolder = Annotated[
    Path, typer.Option("--lab", envvar="AGENTLAB_LAB", help="The lab folder.", show_default=True, file_okay=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]
Env = Annotated[str | None, typer.Option("--env", help="Only this environment, such as twx/coin.")]
Run = Annotated[str | None, typer.Option("--run", help="Only this run.")]

DEFAULT_LAB = Path("lab")


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

    try:
        return canonical(given)
    except UnknownEnvironment:
        if database.episodes(env=given, limit=1):
            return given
        raise
