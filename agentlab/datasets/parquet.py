"""A Parquet file that grows by groups of rows of bounded size, so that a long one takes no more memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agentlab.errors import MissingPackage

AT_ONCE = 10
"""Rows that are turned into columns together."""

GROUP_ROWS = 500
GROUP_BYTES = 32 * 2**20
"""Rows of a group, and bytes of its columns, of which one suffices to end it."""


def pyarrow() -> tuple[Any, Any]:
    """The package and its module for files. Raises MissingPackage."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackage(
            "A data set needs the package pyarrow, which is not installed; run `pip install 'agentlab[parquet]'`."
        ) from error
    return pyarrow, parquet


def write(path: Path, schema: Any, rows: Iterable[dict[str, Any]]) -> int:
    """Write `rows` into a new file, and return how many; without any there is no file."""
    _, parquet = pyarrow()
    written, writer = 0, None
    try:
        for group in _groups(schema, rows):
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = parquet.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(group, row_group_size=len(group))
            written += len(group)
    finally:
        if writer is not None:
            writer.close()
    return written


def _groups(schema: Any, rows: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """The rows as tables, each of which becomes a group."""
    pa, _ = pyarrow()
    rest, waiting = iter(rows), []
    while batch := list(islice(rest, AT_ONCE)):
        waiting.append(pa.Table.from_pylist(batch, schema=schema))
        if sum(map(len, waiting)) >= GROUP_ROWS or sum(part.nbytes for part in waiting) >= GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
