"""The one way by which reflections come into a namespace: once by id, counted where one says the same, bounded."""

from __future__ import annotations

from collections.abc import Sequence

from memory.interchange import quota
from memory.records import Reflection, now
from memory.store import repeats
from memory.store.database import Database
from memory.text.cleaning import cleaned


def remember(database: Database, reflections: Sequence[Reflection], *, namespace: str, limit: int) -> list[str]:
    """Keep `reflections` in a namespace, all or none, and return their ids.

    What it does with each, and what it raises, stands at `ReflectionMemory.remember`; `limit` is the quota of a source.
    """
    tidy = [cleaned(reflection) for reflection in reflections]
    with database.transaction():
        wanted = [_owned(database, reflection, namespace) for reflection in tidy]
        new = [_put(database, one) for one in wanted if not database.reflections.has(one.id)]
        quota.check(database, new, limit, now())
    return [reflection.id for reflection in wanted]


def _put(database: Database, new: Reflection) -> Reflection:
    """Keep what is not there yet, as what it says or as one more that says it."""
    kept = repeats.counted(database, new)
    database.reflections.put(kept, change="remembered" if kept is new else "repeated")
    return kept


def _owned(database: Database, reflection: Reflection, namespace: str) -> Reflection:
    """The reflection as it is kept in this namespace: another id stands for one that another namespace has."""
    own = database.reflections.own_id
    return reflection.model_copy(
        update={
            "id": own(reflection.id, namespace),
            "namespace": namespace,
            "derived_from": [own(id, namespace) for id in reflection.derived_from],
            "merged_into": own(reflection.merged_into, namespace) if reflection.merged_into else None,
        }
    )
