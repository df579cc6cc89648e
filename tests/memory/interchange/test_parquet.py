"""Parquet: typed columns that any tool reads."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from memory import Advice, Database, Reflection
from memory.errors import BadImport, MissingDependency
from memory.interchange import parquet
from memory.interchange.transfer import export_reflections, import_reflections


def test_plain_fields_are_typed_columns_and_nested_ones_json(
    database: Database, reflection: Callable[..., Reflection], advice: Callable[..., Advice], tmp_path: Path
) -> None:
    database.reflections.put(reflection("a", tags=["x", "y"], votes=3, pinned=True, advice=[advice()]))
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
    monkeypatch.setattr("memory.interchange.parquet.BATCH", 2)
    for number in range(5):
        database.reflections.put(reflection(f"r-{number}", env=f"env-{number}"))
    assert export_reflections(database, tmp_path / "out.dat", format="parquet") == 5
    assert pyarrow.parquet.ParquetFile(tmp_path / "out.dat").num_row_groups == 3
    assert len(import_reflections(database, tmp_path / "out.dat").same) == 5


def test_what_python_cannot_hold_is_said_for_what_it_is(database: Database, tmp_path: Path) -> None:
    span = pyarrow.array([2**60], pyarrow.duration("s"))
    table = pyarrow.table({"id": ["a"], "kind": ["note"], "text": ["x"], "took": span})
    pyarrow.parquet.write_table(table, tmp_path / "span.parquet")
    with pytest.raises(BadImport) as refused:
        import_reflections(database, tmp_path / "span.parquet")
    assert "MiB" not in str(refused.value)


def test_a_damaged_file_and_a_bad_row_are_one_line(database: Database, tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(BadImport, match="no readable Parquet file"):
        import_reflections(database, tmp_path / "torn.parquet")
    rows = [{"id": id, "kind": "note", "env": "", "task": "", "text": "x", "advice": advice} for id, advice in
            (("a", "[]"), ("b", "[7]"))]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "bad.parquet")
    with pytest.raises(BadImport, match="row 2: advice"):
        import_reflections(database, tmp_path / "bad.parquet", strict=True)
    assert database.reflections.count() == 0
    rows[1]["advice"] = "["
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "bad.parquet")
    report = import_reflections(database, tmp_path / "bad.parquet")
    assert (len(report.added), report.omitted) == (1, 1)


TEXT = "x" * 1_000_000
BOMBS = {
    "one text, many times": {
        "id": [str(n) for n in range(500)],
        "memory": pyarrow.DictionaryArray.from_arrays([0] * 500, [TEXT]),
    },
    "a list of it": {"id": ["a"], "memory": ["b"], "categories": [[TEXT[:1000]] * 40_000]},
    "within objects": {"id": ["a", "b"], "memory": ["c"] * 2, "metadata": [{"x": [TEXT[:1000]] * 20_000}] * 2},
    "numbers": {"id": ["a"], "memory": ["b"], "seen": [[0] * 1_000_000]},
    "one long row": {"id": ["a"], "memory": [TEXT * 17]},
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_small_file_that_decodes_to_much_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    monkeypatch.setattr("memory.interchange.parquet.CELLS", 500_000)
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table(data), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 10_000
    before, watched = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(watched)
    tracemalloc.start()
    try:
        with pytest.raises(BadImport, match="holds"):
            list(parquet.decoded(path))
        peak = tracemalloc.get_traced_memory()[1] + watched.max_memory()
    finally:
        tracemalloc.stop()
        pyarrow.set_memory_pool(before)
    assert peak < 100_000_000


def lying(path: Path, text: str) -> None:
    """Write a file with a long text whose footer says that its column is short."""
    table = pyarrow.table({"id": ["a"], "kind": ["k"], "text": [text]})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    size = pyarrow.parquet.read_metadata(path).row_group(0).column(2).total_uncompressed_size
    true = varint(2 * size)
    false = b"\x90" + b"\x80" * (len(true) - 2) + b"\x00"
    data = path.read_bytes()
    at = data.rindex(true)
    path.write_bytes(data[:at] + false + data[at + len(false) :])
    assert pyarrow.parquet.read_metadata(path).row_group(0).column(2).total_uncompressed_size < 100


def varint(number: int) -> bytes:
    digits = []
    while number:
        digits.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
    return bytes(digits)


def test_a_file_that_lies_about_its_sizes_gets_no_more_memory_than_any_other(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MEMORY", 320 * 2**20, raising=False)
    lying(tmp_path / "lying.parquet", "x" * 150_000_000)
    assert (tmp_path / "lying.parquet").stat().st_size < 100_000
    with pytest.raises(BadImport, match=r"^lying.parquet holds what cannot be decoded in .* memory"):
        import_reflections(database, tmp_path / "lying.parquet")
    assert database.reflections.count() == 0
    lying(tmp_path / "honest.parquet", "x" * 5_000_000)  # what fits is read, whatever the footer says
    assert len(import_reflections(database, tmp_path / "honest.parquet").added) == 1


def test_a_file_is_decoded_where_the_system_has_no_limits(
    database: Database, reflection: Callable[..., Reflection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.reflections.put(reflection("a"))
    export_reflections(database, tmp_path / "out.parquet")
    monkeypatch.setitem(sys.modules, "resource", None)
    parquet.limit_memory(1)
    assert [row["id"] for row in parquet.decoded(tmp_path / "out.parquet")] == ["a"]


def test_a_process_that_dies_while_it_decodes_is_one_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(parquet, "_DECODE", "import os; os.abort()")
    with pytest.raises(BadImport, match=r"^a.parquet holds what cannot be decoded"):
        import_reflections(database, tmp_path / "a.parquet")


def test_times_of_any_kind_are_read_and_a_data_frames_row_numbers_are_not(database: Database, tmp_path: Path) -> None:
    moment = datetime(2025, 3, 1, 10, tzinfo=UTC)
    kinds = [
        pyarrow.timestamp("us", "UTC"),
        pyarrow.timestamp("ns"),
        pyarrow.timestamp("s", "+02:00"),
        pyarrow.date32(),
    ]
    for number, kind in enumerate(kinds):
        times = pyarrow.array([moment.date() if kind == pyarrow.date32() else moment, None], kind)
        columns = {
            "id": ["p1", "p2"],
            "memory": [f"Likes {number} teas.", f"Likes {number} cakes."],
            "user_id": ["u1", None],
            "created_at": times,
            "metadata": [{"topic": "a"}, None],
            "vector": pyarrow.array([[1.0, 2.0]] * 2, pyarrow.list_(pyarrow.float32(), 2)),
            "__index_level_0__": [0, 1],
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{number}.parquet")
        report = import_reflections(database, tmp_path / f"{number}.parquet", namespace=f"n{number}")
        assert [database.reflections.get(id).tags for id in report.added] == [
            ["user:u1", "topic:a", "written:2025-03-01"], []
        ]  # fmt: skip


def test_without_pyarrow_the_remedy_is_named_and_nothing_is_left_behind(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'agentlab\[parquet\]'"):
        export_reflections(database, tmp_path / "out.parquet")
    assert list(tmp_path.glob("out*")) == []
