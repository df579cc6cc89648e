"""What the command line prints: tables or JSON on stdout, notes on stderr.

Text that comes from a game, a model or a memory is data: see `agentlab.terminal`, whose names are here too.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab.terminal import bounded, clean, console, one_line, text
from agentlab.terminal import note as note

if TYPE_CHECKING:
    from rich.table import Table

    from memory.records import Usage

STYLES = {
    "won": "green",
    "promoted": "green",
    "active": "green",
    "ok": "green",
    "lost": "red",
    "errored": "magenta",
    "rejected": "red",
    "problem": "bold red",
    "warning": "yellow",
    "truncated": "yellow",
    "benched": "yellow",
    "candidate": "yellow",
    "forgotten": "dim",
    "retired": "dim",
}


@dataclass(frozen=True)
class Column:
    """One column of a listing: the key in each row, its title, and how its cells are written.

    `digits` rounds floats. A `wide` column takes the room that is left and wraps; all others keep to one line. Where
    the terminal is too narrow for the table, a row begins with its `head` columns.
    """

    key: str
    title: str = ""
    digits: int = 2
    wide: bool = False
    head: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.key

    def cell(self, value: object) -> str:
        """`value` as the text of a cell; nothing for None."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value:.{self.digits}f}"
        if isinstance(value, (list, tuple, set)):
            return ", ".join(str(item) for item in value)
        return str(value)


def took(usage: Usage | None) -> dict[str, str]:
    """Cells of what a model took: tokens read and written, and US dollars, as far as they are known."""
    if usage is None:
        return {}
    tokens = usage.input_tokens + usage.output_tokens
    return ({"tokens": f"{tokens:,}"} if tokens else {}) | ({"cost": f"${usage.cost:.4f}"} if usage.cost else {})


def took_columns(rows: Sequence[Mapping[str, object]]) -> list[Column]:
    """The columns of `took` that some of the rows have cells for."""
    return [Column(key) for key in ("tokens", "cost") if any(key in row for row in rows)]


def ago(stamp: str) -> str:
    """A stored time (UTC, ISO 8601) as a person reads it: local, to the minute."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return stamp


def say(message: str, style: str = "") -> None:
    """A result in words (stdout)."""
    console().print(text(message, style), soft_wrap=True)


def program() -> str:
    """What a person types to start this program: its name where that is on the PATH, else its place."""
    if shutil.which("agentlab") or Path(sys.argv[0]).name != "agentlab":
        return "agentlab"
    own = Path(sys.argv[0]).absolute()
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def as_json(value: object) -> None:
    """`value` as JSON on stdout. Records and paths are turned into plain data; what JSON has no number for is null."""
    finite = json.loads(json.dumps(value, default=plain), parse_constant=lambda _: None)
    # Where the terminal has few characters, JSON's own escapes lose nothing.
    narrow = not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    sys.stdout.write(json.dumps(finite, indent=2, ensure_ascii=narrow) + "\n")


def tolerate() -> None:
    """Have what the terminal cannot show replaced, whatever its encoding; what nobody reads (`>&-`) goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def plain(value: Any) -> object:
    """What JSON does not know by itself: pydantic records, dataclasses, named tuples, paths, numpy numbers."""
    import dataclasses

    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def row_of(value: Any) -> dict[str, Any]:
    """A record, dataclass, named tuple or mapping as one row of a listing."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    data = plain(value)
    return dict(data) if isinstance(data, dict) else {"value": data}


def listing(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, as_data: bool, empty: str, title: str = ""
) -> None:
    """Print `rows` as a table with these columns, or whole as a JSON array; `empty` stands in for a table of none."""
    if as_data:
        as_json([dict(row) for row in rows])
        return
    if not rows:
        say(empty)
        return
    cells = [[_cell(row, column) for column in columns] for row in rows]
    # Each column as wide as its widest cell; what wraps needs room for some words.
    widths = [
        max(len(column.heading), LEAST if column.wide else max(len(row[place]) for row in cells))
        for place, column in enumerate(columns)
    ]
    needed = sum(widths) + GAP * (len(columns) - 1)
    room = console().width
    if needed <= room or not bounded(sys.stdout):
        _as_table(rows, columns, cells, title, max(needed, room))
    else:
        _stacked(columns, cells, title)


LEAST, GAP, INDENT = 30, 3, 2
"""Characters of a line: for a text that wraps, at least; between two columns; before what belongs to a row."""


def _cell(row: Mapping[str, Any], column: Column) -> str:
    value = column.cell(row.get(column.key))
    return clean(value) if column.wide else one_line(value)


def _as_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], cells: Sequence[Sequence[str]], title: str, width: int
) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        numeric = all(isinstance(row.get(column.key), (int, float, type(None))) for row in rows)
        table.add_column(
            column.heading,
            justify="right" if numeric else "left",
            no_wrap=not column.wide,
            overflow="fold",
            ratio=1 if column.wide else None,
        )
    for row in cells:
        table.add_row(*[text(cell, STYLES.get(cell, "")) for cell in row])
    console(width=width).print(table)


def _stacked(columns: Sequence[Column], cells: Sequence[Sequence[str]], title: str) -> None:
    """A row as some lines: what names it, then what else is known of it by name, then its texts."""
    from rich.cells import cell_len
    from rich.padding import Padding

    here = console()
    if title:
        here.print(text(title, "bold"))
    for row in cells:
        named = [(column, cell) for column, cell in zip(columns, row, strict=True) if cell not in ("", "no")]
        head = text("")
        for number, (_, cell) in enumerate(pair for pair in named if pair[0].head or pair[0] is columns[0]):
            head += text("  " if number else "") + text(cell, STYLES.get(cell, "") if number else "bold")
        here.print(head, overflow="fold")
        lines: list[str] = []
        for column, cell in named:
            if not (column.head or column.wide or column is columns[0]):
                part = f"{column.heading} {cell}"
                # A name stays with what it names.
                if lines and cell_len(f"{lines[-1]}  {part}") <= here.width - INDENT:
                    lines[-1] += f"  {part}"
                else:
                    lines.append(part)
        for line in lines:
            here.print(Padding(text(line, "dim"), (0, 0, 0, INDENT), expand=False), overflow="fold")
        for column, cell in named:
            if column.wide and column is not columns[0]:
                here.print(Padding(text(cell), (0, 0, 0, INDENT), expand=False), overflow="fold")


def grid(titles: Sequence[str], left: int = 1) -> Table:
    """A narrow table for rows to come, whose first `left` columns are text, and the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place < left else "right", overflow="fold")
    return table


def facts(pairs: Iterable[tuple[str, object]], width: int | None = None) -> None:
    """Print names and values below each other, at most `width` wide; pairs without a value are left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for name, value in pairs:
        if value not in (None, "", [], {}):
            shown = Column(name, digits=3).cell(value)
            table.add_row(name, text(shown, STYLES.get(shown, "")))
    console(width=width).print(table)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on stderr that something of unknown length goes on; a spinner where stderr is a terminal."""
    with console(sys.stderr).status(text(f"{one_line(what)} …")):
        yield
