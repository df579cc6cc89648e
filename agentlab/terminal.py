"""What a terminal is given: text without control characters, markup never interpreted, progress and notes on stderr.

Text that comes from a game, a model or a memory is data: nothing recorded can drive the terminal of its
reader.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# C0 without tab and line feed, DEL, C1, and the marks that reorder text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Whole terminal sequences go first, so that no bracketed rest stays behind.
_SEQUENCE = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b[@-_]")


def clean(text: str) -> str:
    """`text` without control characters and terminal sequences; line ends and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int | None = None) -> str:
    """`text` cleaned and on one line, cut to `limit` characters with an ellipsis."""
    flat = " ".join(clean(text).split())
    return flat if limit is None or len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def console(stream: TextIO | None = None, width: int | None = None) -> Console:
    """A Rich console on `stream` (default: stdout) that interprets no markup and does not wrap into pipes.

    With a `width` it never prints wider than that.
    """
    from rich.console import Console

    target = stream or sys.stdout
    # Rich takes 80 columns where there is no terminal, which would cut ids out of a listing that goes into a pipe.
    wide = None if bounded(target) else 200
    return Console(file=target, markup=False, highlight=False, emoji=False, width=width or wide, soft_wrap=False)


def bounded(stream: TextIO) -> bool:
    """True where lines have an end: in a terminal, or where COLUMNS says how many there are."""
    return stream.isatty() or bool(os.environ.get("COLUMNS"))


def text(value: str, style: str = "") -> Text:
    """`value` as Rich text: cleaned, no markup."""
    from rich.text import Text

    return Text(clean(value), style=style)


def note(message: str) -> None:
    """One line beside the result (stderr), such as the reason why an index was built again."""
    console(sys.stderr).print(text(one_line(message), "dim"), soft_wrap=True)
