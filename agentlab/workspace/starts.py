"""How held-out games begin, as far as a lab knows: what begins alike in training would be known by heart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split

HELD_OUT: tuple[Split, ...] = ("dev", "test")


class _Row(NamedTuple):
    id: str
    task: str


def scope(env: str, split: str) -> str:
    """The journal's scope for the games of a fold that were looked at."""
    return f"starts|{env}|{split}"


def known_starts(workspace: Workspace) -> frozenset[tuple[str, str]]:
    """How the dev and test games begin that were played here, or that a round looked at: (goal, first observation).

    No game is begun for it.
    """
    from trainers.data import start_of, starts_of

    database = workspace.database
    starts = set[tuple[str, str]]()
    for (env,) in database.episode_listing.counts(("env",)):
        for split in HELD_OUT:
            looked_at = database.journal.items(scope(env or "", split)).values()
            starts |= {(start["goal"], start["observation"]) for start in looked_at}
    rows = [row for split in HELD_OUT for row in database.episodes.select(_Row, EpisodeFilter(split=split))]
    first = {row.task: row.id for row in reversed(rows)}
    starts |= {start_of(episode) for episode in database.episodes.each(first.values())}
    return starts_of(starts)
