"""A file that somebody else wrote, entry by entry. Its limits are looked at before anything of it is decoded.

JSON lines, a JSON list, an object that holds a list, and Parquet are told apart by content; gzip and bzip2 are unpacked
on the way. What cannot be read of a file is an `Unreadable` entry as long as the rest can be, else `BadImport`.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from memory import errors
from memory.interchange import parquet
from memory.text import jsonlines

MIB = 2**20
FILE = 256 * MIB
"""Bytes of a file, and of what it is unpacked to."""
WHOLE = 32 * MIB
"""Bytes of JSON that is one value rather than lines: it can only be decoded as a whole."""
LINE = 16 * MIB
"""Bytes of one line of JSON lines."""
VALUES = 4_000_000
"""How many values one JSON document may hold: each takes some hundred bytes, however few it was written with."""
ROWS = 1_000_000
"""How many entries a file may have."""

LISTS = ("results", "items", "memories", "data")
"""Under which names an answer of a tool holds its list; what they hold may hold it in turn."""

_PACKED: dict[bytes, Callable[[Path], IO[bytes]]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}  # type: ignore[dict-item]
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\xfd7zXZ": "packed with xz", b"\x28\xb5\x2f\xfd": "packed with zstd"}
_BOM = b"\xef\xbb\xbf"


class Unreadable(NamedTuple):
    """An entry that is none, and why."""

    why: str


Entry = dict[str, Any] | Unreadable


def entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Each entry of the file with where it stands in it. Raises `BadImport`; `MissingDependency` for Parquet."""
    for where, value in values(path):
        yield where, value if isinstance(value, (dict, Unreadable)) else Unreadable("it is not an object")


def values(path: Path) -> Iterator[tuple[str, Any]]:
    """As `entries`, whatever kind of value they are."""
    for number, (where, value) in enumerate(_values(path)):
        if number == ROWS:
            raise errors.BadImport(f"{path.name} has more than {ROWS:,} entries; divide it.")
        yield where, value


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        if path.exists() and not path.is_file():
            raise errors.BadImport(f"{path} is not a plain file; give the path of one.")
        with path.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, 2)
        _check_size(path, size)
        for magic, what in _ARCHIVES.items():
            if head.startswith(magic):
                raise errors.BadImport(f"{path.name} is {what}; unpack it, and give the file that is in it.")
        if head.startswith(parquet.MAGIC):
            yield from ((f"row {number}", row) for number, row in enumerate(parquet.read(path), 1))
            return
        unpack = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), None)
        with unpack(path) if unpack else path.open("rb") as stream:
            yield from _json(path, _Within(path, stream))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise errors.BadImport(f"{path.name} cannot be unpacked ({error}); export it again.") from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise errors.BadImport(f"{path} cannot be read ({reason}); check the path.") from error


def _check_size(path: Path, size: int) -> None:
    if size > FILE:
        raise errors.BadImport(f"{path.name} has more than {FILE // MIB} MiB of data; divide it.")


class _Within:
    """A stream of which no more than `FILE` bytes are taken, however little they are packed into."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self.stream = stream
        self.taken = 0
        self.lines = 0

    def _counted(self, data: bytes) -> bytes:
        self.taken += len(data)
        _check_size(self.path, self.taken)
        return data

    def read(self, size: int) -> bytes:
        return self._counted(self.stream.read(size))

    def readline(self, size: int = -1, /) -> bytes:
        self.lines += 1
        if self.lines > 2 * ROWS:
            raise errors.BadImport(f"{self.path.name} has more than {2 * ROWS:,} lines; divide it.")
        return self._counted(self.stream.readline(size))


def _json(path: Path, stream: _Within) -> Iterator[tuple[str, Any]]:
    """What begins with a bracket is a list. What begins with a brace is lines if its first line is an entry."""
    first, at = _first(path, stream)
    if first.startswith(parquet.MAGIC):
        raise errors.BadImport(f"{path.name} is a packed Parquet file; unpack it first.")
    if first.lstrip().startswith(b"["):
        yield from _items(_whole(path, first + _rest(path, stream, first)))
        return
    try:
        value = _decoded(first)
    except ValueError as error:
        if first.lstrip().startswith(b"{") and len(first) <= WHOLE:
            # One object over several lines, or lines of which the first is bad.
            data = first + _rest(path, stream, first)
            try:
                value = _decoded(data)
            except ValueError:
                yield from _split(data, at)
                return
            yield from _items([value] if (held := _held(value)) is None else held)
            return
        value = Unreadable(str(error))
    if first.strip():
        yield from _spread(f"line {at}", value)
    try:
        for number, line in jsonlines.lines(stream, LINE):
            yield from _spread(f"line {at + number}", _tried(line))
    except ValueError as error:
        raise errors.BadImport(f"{path.name} cannot be read: behind line {at}, {error}; divide it.") from error


def _first(path: Path, stream: _Within) -> tuple[bytes, int]:
    """The first line that is not blank, and its number."""
    at = 0
    while line := stream.readline(WHOLE + 1):
        at += 1
        if len(line) > WHOLE:
            raise _too_large(path)
        line = line.removeprefix(_BOM) if at == 1 else line
        if line.strip():
            return line, at
    return b"", at


def _rest(path: Path, stream: _Within, first: bytes) -> bytes:
    rest = stream.read(WHOLE + 1 - len(first))
    if len(first) + len(rest) > WHOLE:
        raise _too_large(path)
    return rest


def _too_large(path: Path) -> errors.BadImport:
    return errors.BadImport(
        f"{path.name} is one piece of JSON of more than {WHOLE // MIB} MiB; save it as JSON lines, an entry a line."
    )


def _whole(path: Path, data: bytes) -> list[Any]:
    try:
        value = _decoded(data)
    except ValueError as error:
        raise errors.BadImport(f"{path.name}: {error}; correct it (nothing was imported).") from error
    return value if isinstance(value, list) else [value]


def _decoded(data: bytes) -> Any:
    """The value of some JSON that does not hold too many. Raises ValueError."""
    if data.count(b",") + data.count(b"[") + data.count(b"{") > VALUES:
        raise ValueError(f"it holds more than {VALUES:,} values")
    return jsonlines.parsed(data)


def _tried(line: bytes) -> Any:
    try:
        return _decoded(line)
    except ValueError as error:
        return Unreadable(str(error))


def _split(data: bytes, at: int) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(data.split(b"\n"), at):
        if line.strip():
            yield from _spread(f"line {number}", _tried(line))


def _items(found: list[Any]) -> Iterator[tuple[str, Any]]:
    yield from ((f"item {number}", item) for number, item in enumerate(found, 1))


def _spread(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The entry of a line, or those of the list that it holds: a page of an answer a line."""
    held = _held(value)
    yield from [(where, value)] if held is None else ((f"{where}, {place}", item) for place, item in _items(held))


def _held(value: Any, levels: int = 3) -> list[Any] | None:
    """The list that an answer holds, or holds within another."""
    if not isinstance(value, dict) or not levels:
        return None
    for name in LISTS:
        inner = value.get(name)
        found = inner if isinstance(inner, list) else _held(inner, levels - 1)
        if found is not None:
            return found
    return None
