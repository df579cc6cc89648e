"""What was merged into a reflection counts for it: its recalls are its own and those of all that it took over.

Nothing is rewritten for this. A merge leaves a link from each item to its survivor, and these are followed, over any
number of merges, as long as the item's status is `merged`; so a merge that is taken back gives the recalls back too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from memory.database import Database
from memory.episodes import chunks, marks

MERGED = "merged"

_FAMILY = (
    "WITH RECURSIVE family (root, member) AS (SELECT id, id FROM reflections WHERE id IN {ids} UNION "
    "SELECT root, links.source FROM family JOIN links ON links.target = member AND links.kind = 'merged' "
    "JOIN reflections ON reflections.id = links.source AND reflections.status = 'merged') "
)


class Served(NamedTuple):
    """Whom a reflection and all that was merged into it have served.

    `n` episodes, of which `n_ended` have ended and `n_won` were won; `last` is the time of the last recall. An episode
    that was served several of them counts once, and what was withheld does not count.
    """

    n: int = 0
    n_won: int = 0
    n_ended: int = 0
    last: str | None = None


def family(database: Database, ids: Sequence[str]) -> dict[str, list[str]]:
    """For each of these reflections the ids that count for it: its own first, then those merged into it."""
    found: dict[str, list[str]] = {id: [id] for id in ids}
    for part in chunks(ids):
        rows = database.execute(
            f"{_FAMILY.format(ids=marks(part))} SELECT root, member FROM family WHERE root <> member ORDER BY member",
            part,
        )
        for root, member in rows:
            found[root].append(member)
    return found


def served(database: Database, ids: Sequence[str]) -> dict[str, Served]:
    """For each of these reflections whom its whole family has served."""
    found = dict.fromkeys(ids, Served())
    for part in chunks(ids):
        rows = database.execute(
            f"{_FAMILY.format(ids=marks(part))} SELECT root, count(DISTINCT episode), "
            "count(DISTINCT CASE WHEN won THEN episode END), "
            "count(DISTINCT CASE WHEN won IS NOT NULL THEN episode END), max(recalls.at) "
            "FROM family JOIN recalls ON recalls.reflection = member WHERE NOT withheld GROUP BY root",
            part,
        )
        found.update((row[0], Served(*row[1:])) for row in rows)
    return found
