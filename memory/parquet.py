"""Rows of reflections as a Parquet file: typed columns for plain values, JSON text for what is nested."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_origin

from memory import errors
from memory.records import Record, Reflection

MAGIC = b"PAR1"
BATCH = 2000
ATTACHED = ("recalls", "links", "versions")
"""What travels with a reflection beside its own fields."""


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `rows` (the fields of `Reflection` and what is `ATTACHED`, as plain data). Raises `MissingDependency`."""
    pa, pq = _pyarrow()
    schema = pa.schema([*((name, _column(pa, name)) for name in Reflection.model_fields), *_attached(pa)])
    nested = _nested()
    rest = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rest, BATCH)):
            plain = [{name: _json(value) if name in nested else value for name, value in row.items()} for row in batch]
            writer.write_table(pa.Table.from_pylist(plain, schema=schema))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, each without its empty cells. Raises `MissingDependency` and `BadImport`."""
    pa, pq = _pyarrow()
    nested = _nested()
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    yield {
                        name: json.loads(value) if name in nested and isinstance(value, str) else value
                        for name, value in row.items()
                        if value is not None or name == "merged_into"
                    }
    except (pa.ArrowException, json.JSONDecodeError) as error:
        raise errors.BadImport(f"{path} is no readable Parquet file ({error}); export it again.") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise errors.MissingDependency(
            "Parquet needs the package pyarrow, which is not installed; `pip install 'agentlab[parquet]'` brings it, "
            "and JSON lines (.jsonl) need nothing."
        ) from error
    return pyarrow, parquet


def _column(pa: Any, name: str) -> Any:
    """The type of a column. What is neither a number nor a list of texts is text: names, choices, and JSON."""
    simple = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list[str]: pa.list_(pa.string())}
    annotation: Any = Reflection.model_fields[name].annotation
    return next((type_ for kind, type_ in simple.items() if annotation == kind), pa.string())


def _attached(pa: Any) -> list[tuple[str, Any]]:
    return [(name, pa.string()) for name in ATTACHED]


def _nested() -> set[str]:
    """The columns that hold lists of records."""
    fields = {
        name
        for name, field in Reflection.model_fields.items()
        if get_origin(field.annotation) is list and issubclass(get_args(field.annotation)[0], Record)
    }
    return {*fields, *ATTACHED}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
