"""How much one source may bring in: nobody but the agent itself fills the memory unnoticed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from memory import errors
from memory.records import Reflection
from memory.store.database import Database
from memory.store.origins import CLIENTS, origin

QUOTA = 1000
"""Active reflections that one source may bring into one namespace within 24 hours, unless set otherwise."""


def check(
    database: Database, reflections: Iterable[Reflection], limit: int, present: str, *, apart: bool = True
) -> None:
    """Refuse `reflections`, which were just written, if one of their sources has now brought in more than `limit`.

    To be called within the transaction of the writing, which the refusal undoes. The agent's own (source `""`) are not
    counted. What counts is when a reflection came into this database, which its file cannot say otherwise, and not when
    it says that it was made. `present` is a stored time. Each namespace counts for itself, unless `apart` is false:
    then whoever spreads what it brings over many has no more than the others.

    Raises:
        QuotaExceeded
    """
    since = (datetime.fromisoformat(present) - timedelta(hours=24)).isoformat(timespec="microseconds")
    written = {(item.namespace if apart else None, origin(item.source)) for item in reflections if item.source}
    for namespace, source in sorted(written, key=str):
        count = database.versions.count_brought_in(since, source, namespace, prefix=source == CLIENTS)
        if count > limit:
            who = "All clients together" if source == CLIENTS else f"The source '{source}'"
            raise errors.QuotaExceeded(
                f"{who} would have brought in {count} reflections within 24 hours, of {limit} that one "
                "source may; nothing was kept. Bring in fewer, or allow more with source_quota in lab.toml."
            )
