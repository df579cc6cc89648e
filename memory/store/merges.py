"""What was merged into a reflection counts for it: its family is itself and all that it took over, over any number of
merges.

Nothing is rewritten for this. Each merged item names its survivor, and these names are followed as long as the items
are merged; so a merge that is taken back gives the recalls back too. An episode counts once for a family, however many
of its members it met: it was served if any of them was.

Where lots were drawn, members that were chosen for an episode at one moment were one experiment, since they say the
same: it was served unless all of them were held out, and the odds of that are 1 − Π(1 − pᵢ). If one of them was served
for certain, the episode says nothing. Of several moments the first counts. Whether there was a later one may depend on
how the first lots fell (what is held out makes room for the next), and to look at it would compare episodes that chance
did not make alike. That a later member made up for one that was held out can then only make the effect look smaller,
never make one where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

from memory.store.connection import Connection
from memory.store.sql import chunks, marks

MERGED = "merged"


class FamilyAssignment(NamedTuple):
    """What was decided at one moment about a family for one episode, and how that ended (None: not yet)."""

    root: str
    env: str
    propensity: float
    held_out: bool
    won: bool | None
    at: str


def families(ids: Sequence[str] | None = None) -> str:
    """SQL that defines `family (root, member)`: of those of `ids` that took over others, or of all that stand.

    It takes the ids as its parameters. What took over nothing costs one look into an index that holds only what was
    merged, and has no rows.
    """
    merged = "SELECT id FROM reflections WHERE merged_into IS NOT NULL"
    # IS NOT NULL follows from either, but without it SQLite does not see that the index of what was merged will do.
    which = f"IN {marks(ids)}" if ids is not None else f"IS NOT NULL AND merged_into NOT IN ({merged})"
    return (
        f"WITH RECURSIVE family (root, member) AS (SELECT merged_into, merged_into FROM reflections "
        f"WHERE merged_into {which} UNION SELECT root, id FROM family JOIN reflections ON merged_into = member) "
    )


def family(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """For each of these reflections the ids that count for it: its own first, then those merged into it."""
    found: dict[str, list[str]] = {id: [id] for id in ids}
    for part in chunks(list(found)):
        rows = connection.execute(
            f"{families(part)} SELECT root, member FROM family WHERE root <> member ORDER BY member", part
        )
        for root, member in rows:
            found[root].append(member)
    return found


def first_assignments(rows: Iterable[tuple[Any, ...]]) -> Iterator[FamilyAssignment]:
    """What decided about each family for each episode.

    `rows` are (root, episode, at, env, propensity, held_out, won) of all members, sorted by the first three.
    """
    for (root, _), each in groupby(rows, key=lambda row: row[:2]):
        lots = list(each)
        _, _, at, env, propensity, held_out, won = lots[0]
        together = [row for row in lots if row[2] == at]
        if len(together) > 1:
            # Rounded, so that the order of the factors makes no stratum of its own.
            propensity = round(1 - prod(1 - row[4] for row in together), 12)
            held_out = all(row[5] for row in together)
        yield FamilyAssignment(root, env, propensity, bool(held_out), None if won is None else bool(won), at)
