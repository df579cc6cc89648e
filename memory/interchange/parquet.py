"""Rows of reflections as a Parquet file: typed columns for plain values, JSON text for what is nested."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_origin

from memory import errors
from memory.records import Record, Reflection

MAGIC = b"PAR1"
BATCH = 500
"""Rows that are written and read together."""
ROWS = 1_000_000
CELLS = 16_000_000
"""How many values a file may hold, those within lists too."""
PART = 64 * 2**20
"""Bytes of one column of a group of rows, unpacked."""
ROW = 16 * 2**20
"""Bytes of one row, decoded."""
DECODED = 256 * 2**20
"""Bytes of all rows, decoded."""
MEMORY = 1024 * 2**20
"""Bytes that the process may take in which a file is decoded."""
WORD = 32
"""Bytes of a number or a time, once it is an object."""
TEXTS = ("string", "binary", "large_string", "large_binary")
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


_DECODE = "import sys; sys.path[:] = sys.argv[3:]; from memory.interchange import parquet; parquet.send(*sys.argv[1:3])"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, each without its empty cells. Raises `MissingDependency` and `BadImport`.

    What a file says of its sizes may be false, and then it takes any amount of memory to find that out. So it is
    decoded in a process of its own, to which the system gives no more than `MEMORY`.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _DECODE, str(path), str(MEMORY), *sys.path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # This allocator takes what it needs; the others reserve much more, as each thread of a library does.
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is for this process, which ends that one
    )
    try:
        while (row := _received(child, path)) is not None:
            yield row
    finally:
        child.kill()
        child.communicate()


def _received(child: subprocess.Popen[bytes], path: Path) -> dict[str, Any] | None:
    """The next row; None behind the last one."""
    try:
        row: dict[str, Any] | errors.MemoryStoreError | None = pickle.load(child.stdout)  # type: ignore[arg-type]
    except (EOFError, pickle.UnpicklingError):
        raise _beyond_memory(path) from None
    if isinstance(row, errors.MemoryStoreError):
        raise row
    return row


def send(path: str, memory: str) -> None:
    """Write the rows of a Parquet file to stdout, pickled, and None behind them; or the error that there is."""
    limit_memory(int(memory))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
        try:
            for row in decoded(Path(path)):
                pickle.dump(row, stream)
            pickle.dump(None, stream)
        except errors.MemoryStoreError as error:
            pickle.dump(type(error)(str(error)), stream)


def limit_memory(most: int) -> None:
    """Have the system give this process no more than so many bytes, where it can do that (Windows cannot)."""
    try:
        import resource
    except ImportError:
        return
    # Programs and libraries count as address space, but not as data.
    for kind, limit in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_AS, 4 * most), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def decoded(path: Path) -> Iterator[dict[str, Any]]:
    """What `read` gives, decoded in this process.

    A few bytes can stand for any number of long texts, each of which is stored once. So texts are read as the
    dictionary that they are stored in, and rows are made one by one, after it is known how large one can be.
    """
    pa, pq = _pyarrow()
    limits = {"thrift_string_size_limit": PART, "thrift_container_size_limit": ROWS}
    taken = 0
    try:
        with pq.ParquetFile(path, **limits) as file:
            _check(path, file.metadata)
            schema = file.schema
            columns = [schema.column(place) for place in range(len(schema))]
            texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
            wanted = [name for name in file.schema_arrow.names if name not in ATTACHED and not _is_index(name)]
        with pq.ParquetFile(path, read_dictionary=texts, **limits) as file:
            for batch in file.iter_batches(BATCH, columns=wanted, use_threads=False):
                taken += sum(_bytes(pa, column) for column in batch.columns)
                if taken > DECODED:
                    raise _too_large(path, f"more than {DECODED // 2**20} MiB")
                if sum(_largest(pa, column) for column in batch.columns) > ROW:
                    raise _too_large(path, f"a row of more than {ROW // 2**20} MiB")
                batch = _plain_times(pa, batch)
                for place in range(len(batch)):
                    (row,) = batch.slice(place, 1).to_pylist()
                    yield {name: value for name, value in row.items() if value is not None}
    except MemoryError as error:
        raise _beyond_memory(path) from error
    except errors.MemoryStoreError:
        raise
    except Exception as error:  # a cell may hold anything, such as a time that Python has none for
        reason = " ".join(str(error).split())[:200]
        raise errors.BadImport(f"{path} is no readable Parquet file ({reason}); export it again.") from error


def _check(path: Path, metadata: Any) -> None:
    """Refuse a file by what it says of its own sizes."""
    if metadata.num_rows > ROWS:
        raise _too_large(path, f"more than {ROWS:,} rows")
    cells = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            cells += column.num_values
            if column.total_uncompressed_size > PART:
                raise _too_large(path, f"more than {PART // 2**20} MiB in one column of a group of rows")
    if cells > CELLS:
        raise _too_large(path, f"more than {CELLS:,} values")


def _too_large(path: Path, what: str) -> errors.BadImport:
    return errors.BadImport(f"{path.name} holds {what}; divide it, or save it as JSON lines.")


def _beyond_memory(path: Path) -> errors.BadImport:
    return _too_large(path, f"what cannot be decoded in {MEMORY // 2**20} MiB of memory")


def _is_index(name: str) -> bool:
    """Whether a column is the row numbers of a data frame."""
    return name.startswith("__index_level_")


def _largest(pa: Any, column: Any) -> int:
    """How many bytes the largest cell of a column may come to."""
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _largest(pa, column.dictionary)
    if pa.types.is_struct(kind):
        return sum(_largest(pa, part) for part in column.flatten())
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _largest(pa, column.values)
    if pa.types.is_nested(kind):
        offsets = column.offsets.to_numpy()
        return int((offsets[1:] - offsets[:-1]).max(initial=0)) * _largest(pa, _values(pa, column))
    return int(pc.max(pc.binary_length(column)).as_py() or 0) if _is_text(pa, kind) else WORD


def _bytes(pa: Any, column: Any) -> int:
    """How many bytes the cells of a column come to together, each by itself."""
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return int(pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_bytes(pa, part) for part in column.flatten())
    if pa.types.is_nested(kind):
        return _bytes(pa, _values(pa, column))
    return int(pc.sum(pc.binary_length(column)).as_py() or 0) if _is_text(pa, kind) else WORD * len(column)


def _values(pa: Any, column: Any) -> Any:
    """What the lists of a column hold; a map is a list of pairs."""
    if pa.types.is_map(column.type):
        return pa.StructArray.from_arrays([column.keys, column.items], ["key", "value"])
    return column.values


def _is_text(pa: Any, kind: Any) -> bool:
    return any(getattr(pa.types, f"is_{name}")(kind) for name in TEXTS)


def _plain_times(pa: Any, batch: Any) -> Any:
    """The batch with its times in UTC and microseconds, which Python has; a time without a zone is taken for UTC."""
    for place, column in enumerate(batch.columns):
        if pa.types.is_timestamp(column.type):
            times = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.timestamp("us", "UTC"))
            batch = batch.set_column(place, batch.schema.field(place).name, times)
    return batch


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
