"""Parquet: typed columns that any tool reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from memory import Advice, Database, Reflection
from memory.errors import BadImport, MissingDependency
from memory.interchange import export_reflections, import_reflections


def test_plain_fields_are_typed_columns_and_nested_ones_json(
    database: Database, reflection: Callable[..., Reflection], advice: Callable[..., Advice], tmp_path: Path
) -> None:
    database.put_reflection(reflection("a", tags=["x", "y"], votes=3, pinned=True, advice=[advice()]))
    export_reflections(database, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    types = {name: str(table.schema.field(name).type) for name in ("text", "votes", "importance", "pinned", "tags")}
    assert types == {
        "text": "string",
        "votes": "int64",
        "importance": "double",
        "pinned": "bool",
        "tags": "list<element: string>",
    }
    (row,) = table.to_pylist()
    assert (row["id"], row["votes"], row["pinned"], row["tags"]) == ("a", 3, True, ["x", "y"])
    assert json.loads(row["advice"]) == [advice().model_dump()]
    assert row["recalls"] is row["versions"] is None


def test_a_large_memory_goes_in_batches(
    database: Database, reflection: Callable[..., Reflection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.parquet.BATCH", 2)
    for number in range(5):
        database.put_reflection(reflection(f"r-{number}"))
    assert export_reflections(database, tmp_path / "out.dat", format="parquet") == 5
    assert pyarrow.parquet.ParquetFile(tmp_path / "out.dat").num_row_groups == 3
    assert len(import_reflections(database, tmp_path / "out.dat").same) == 5


def test_a_damaged_file_and_a_bad_row_are_one_line(database: Database, tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(BadImport, match="no readable Parquet file"):
        import_reflections(database, tmp_path / "torn.parquet")
    rows = [{"id": id, "kind": "note", "env": "", "task": "", "text": "x", "advice": advice} for id, advice in
            (("a", "[]"), ("b", "[7]"))]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(BadImport, match="row 2: advice"):
        import_reflections(database, tmp_path / "bad.parquet")
    rows[1]["advice"] = "["
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(BadImport, match="no readable Parquet file"):
        import_reflections(database, tmp_path / "bad.parquet")
    assert database.count_reflections() == 0


def test_without_pyarrow_the_remedy_is_named_and_nothing_is_left_behind(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'agentlab\[parquet\]'"):
        export_reflections(database, tmp_path / "out.parquet")
    assert list(tmp_path.glob("out*")) == []
