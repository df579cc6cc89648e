"""What was merged into a reflection counts for it, as long as it is merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memory import Database, Recall, Reflection
from memory.lineage import MERGED, Served, family, served
from memory.records import Link


def recalled(reflection: str, episode: str, won: bool | None, day: int, **values: Any) -> Recall:
    at = f"2030-01-{day:02}T00:00:00+00:00"
    return Recall(episode=episode, reflection=reflection, rank=0, query="q", score=1.0, won=won, at=at, **values)


def test_recalls_of_merged_ones_count_over_several_merges(
    database: Database, reflection: Callable[..., Reflection]
) -> None:
    for id, into in (("a", None), ("b", "a"), ("c", "b"), ("d", None)):
        status = "merged" if into else "active"
        database.put_reflection(reflection(id, status=status, merged_into=into))
        if into:
            database.put_links([Link(source=id, target=into, kind=MERGED)])
    database.put_recalls(
        [
            recalled("a", "ep-1", True, 1),
            recalled("b", "ep-1", True, 1),  # The same episode: it counts once.
            recalled("b", "ep-2", False, 3),
            recalled("c", "ep-3", None, 5),
            recalled("c", "ep-4", True, 9, withheld=True),
        ]
    )
    assert family(database, ["a", "b", "d"]) == {"a": ["a", "b", "c"], "b": ["b", "c"], "d": ["d"]}
    assert served(database, ["a", "d"]) == {"a": Served(3, 1, 2, "2030-01-05T00:00:00+00:00"), "d": Served()}
    database.put_reflection(reflection("b"))  # Taken apart again.
    assert family(database, ["a"]) == {"a": ["a"]}
    assert served(database, ["a"])["a"].n == 1
