"""JSON lines as the format has them: a line ends with a line feed, and with nothing else.

Texts hold other characters that Unicode counts as line ends (U+2028, U+0085), and JSON does not escape them: a reader
that splits there tears a text in two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

DEPTH = 64
"""How deeply lists and objects may lie in each other."""


class Readable(Protocol):
    """A stream of bytes, line by line."""

    def readline(self, size: int = -1, /) -> bytes: ...


def lines(stream: Readable, most: int = -1) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number from 1 on. Raises ValueError at one of more than `most` bytes."""
    number = 0
    while line := stream.readline(most + 1 if most >= 0 else -1):
        number += 1
        if 0 <= most < len(line):
            raise ValueError(f"line {number} has more than {most:,} bytes")
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def read(path: Path) -> list[str]:
    """The lines of a file that are not blank. Raises OSError and UnicodeDecodeError."""
    with path.open("rb") as stream:
        return [line.decode("utf-8") for _, line in lines(stream)]


def loaded(data: str | bytes) -> Any:
    """JSON as Python reads it, with NaN. Raises ValueError, also where it is nested more deeply than can be read."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def whole(text: str) -> str:
    """The text with `?` for halves of characters, which JSON can name and no file can hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def parsed(data: bytes) -> Any:
    """JSON as the standard has it: UTF-8, no NaN, nothing infinite, nothing nested beyond `DEPTH`. Raises ValueError.

    Its message is one line.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(DEPTH):
        parts = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [part for group in parts for part in group if isinstance(part, (dict, list))]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
