"""The table of adapters keeps what it is given."""

from __future__ import annotations

from pathlib import Path

from memory import Database
from trainers.adapters import AdapterRecord
from trainers.adapters.table import AdapterTable
from trainers.lineage import Lineage


def test_records_are_kept_whole_and_found_by_status(tmp_path: Path) -> None:
    first = AdapterRecord(
        id="ad-1", base="smollm2", fingerprint="f", path="adapters/ad-1", lineage=Lineage(episodes=["ep-1"])
    )
    second = first.model_copy(update={"id": "ad-2", "parent": "ad-1", "path": "adapters/ad-2"})
    with Database(tmp_path / "lab.db") as database:
        table = AdapterTable(database.connection)
        table.put(first)
        table.put(second)
        promoted = first.model_copy(update={"status": "promoted"})
        table.put(promoted)
        assert (table.get("ad-1"), table.get("ad-2"), table.get("ad-3")) == (promoted, second, None)
        assert (table.find(), table.find("candidate")) == ([promoted, second], [second])
