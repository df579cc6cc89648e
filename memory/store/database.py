"""The SQLite file in which everything is kept: the only truth, from which every cache can be made again."""

from __future__ import annotations

from memory.store.episodes import Episodes
from memory.store.lab_tables import LabTables
from memory.store.links import Links
from memory.store.recalls import Recalls
from memory.store.reflections import Reflections


class Database(Episodes, Reflections, Recalls, Links, LabTables):
    """A lab's database: episodes, reflections, recalls, links, and the ledger of work, adapters and settings.

    `Database(path)` makes the file if there is none and brings an older one up to date, after a copy; `readonly=True`
    does neither.
    Threads may share one object, processes open one each: many may read while one writes. Several writes that belong
    together go into one `with database.transaction():`.

    Raises:
        MemoryStoreError: `NotADatabase`, `DamagedDatabase`, `DatabaseMissing`, `NewerDatabase`, `CannotMigrate` on
            opening; `DatabaseBusy`, `DiskFull`, `ReadOnlyDatabase`, `DatabaseClosed` at any time.
    """
