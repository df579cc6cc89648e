"""The file of an index: one line that says what is in it, then arrays, each with its checksum."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"AgentLab vectors 2\n"
_CHUNK = 1 << 20  # bytes that stay in the processor's cache between reading and checking
_written = itertools.count()


class Fault(Exception):
    """What is wrong with a file, as the end of a sentence about it."""


class IndexFile:
    """A file that is open for reading. `head` is what was said when it was written.

    Everything is checked before it is given away, so that what reads it may trust it. The arrays are asked for in the
    order of their writing.

    Raises:
        Fault: if the file is missing, cannot be read, or is not what it was when it was written.
    """

    def __init__(self, path: Path):
        try:
            self._file: IO[bytes] = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise Fault("was missing") from None
        except OSError as error:
            raise Fault(f"could not be read ({error.strerror})") from error
        try:
            self.head, self._arrays = self._opened()
        except BaseException:
            self._file.close()
            raise

    def _opened(self) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
        start = self._file.read(_CHUNK)
        magic, line, _ = [*start.split(b"\n", 2), b"", b""][:3]
        if magic.startswith(b"AgentLab vectors ") and magic + b"\n" != MAGIC:
            raise Fault("was written by another version of this program")
        said, _, checksum = line.rpartition(b" ")
        if magic + b"\n" != MAGIC or checksum != b"%08x" % zlib.crc32(said):
            raise Fault("was cut short or damaged")
        head = json.loads(said)
        arrays: dict[str, tuple[int, int]] = {name: (size, crc) for name, size, crc in head.pop("arrays")}
        begin = len(MAGIC) + len(line) + 1
        if os.fstat(self._file.fileno()).st_size != begin + sum(size for size, _ in arrays.values()):
            raise Fault("was cut short or damaged")
        self._file.seek(begin)
        return head, arrays

    def into(self, name: str, array: np.ndarray) -> np.ndarray:
        """Read the array of this name into `array`, which has its size, and return it."""
        size, wanted = self._arrays[name]
        view, crc, place = _bytes(array), 0, 0
        if view.nbytes != size:
            raise Fault("was cut short or damaged")
        while place < size:
            part = view[place : place + _CHUNK]
            read = self._file.readinto(part)  # type: ignore[attr-defined]
            if not read:
                raise Fault("was cut short or damaged")
            crc = zlib.crc32(part[:read], crc)
            place += read
        if crc != wanted:
            raise Fault("was cut short or damaged")
        return array

    def array(self, name: str, kind: type[np.generic]) -> np.ndarray:
        """The array of this name, of numbers of this kind."""
        import numpy as np

        return self.into(name, np.empty(self._arrays[name][0] // np.dtype(kind).itemsize, kind))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write(path: Path, head: Mapping[str, Any], arrays: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write the file beside itself and rename it; an array may be given in parts. Raises OSError.

    Several who write at once each write a whole file of their own, and the last one to finish stays.
    """
    sizes = []
    for name, parts in arrays.items():
        crc = 0
        for part in parts:
            crc = zlib.crc32(_bytes(part), crc)
        sizes.append((name, sum(part.nbytes for part in parts), crc))
    said = json.dumps({**head, "arrays": sizes}).encode()
    beside = path.with_name(f"{path.name}.{next(_written)}.{os.getpid()}.new")
    try:
        _sweep(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb", buffering=0) as file:
            file.write(MAGIC + said + b" %08x\n" % zlib.crc32(said))
            for part in itertools.chain.from_iterable(arrays.values()):
                view = _bytes(part)
                while view:
                    # One call writes at most 2 GiB.
                    view = view[file.write(view) :]
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _bytes(array: np.ndarray) -> memoryview:
    import numpy as np

    return array.reshape(-1).view(np.uint8).data


def _sweep(path: Path) -> None:
    """Remove what processes that were killed while writing have left."""
    for left in path.parent.glob(f"{path.name}.*.new"):
        with contextlib.suppress(ValueError, OSError):
            if not _alive(int(left.name.split(".")[-2])):
                left.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
