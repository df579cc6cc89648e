"""How a page is written: the templates, and how numbers, times and addresses stand in them.

Everything that is shown is data and is escaped; no text of a game, a model or a person is ever markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from agentlab.terminal import clean, one_line
from memory.records import now

HERE = Path(__file__).parent

Link = Callable[..., str]
"""Gives the address of a page below the lab: `link("/episodes", env="twx/coin")`."""


@cache
def templates() -> Environment:
    """The environment of all templates."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago,
        "exact": exact,
        "number": number,
        "signed": signed,
        "percent": percent,
        "seconds": seconds,
        "shown": clean,
        "line": one_line,
        "cut": cut,
        "path": lambda text: quote(str(text), safe=""),
    }
    return made


def link_below(root: str) -> Link:
    """Addresses below `root`."""

    def link(path: str, anchor: str = "", **query: Any) -> str:
        kept = {name: str(value) for name, value in query.items() if value not in (None, "")}
        found = root + quote(path, safe="/:%") + (f"?{urlencode(kept)}" if kept else "")
        return found + (f"#{quote(anchor)}" if anchor else "")

    return link


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page as HTML."""
    return templates().get_template(template).render(values)


def _moment(stamp: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(stamp)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def ago(stamp: str) -> str:
    """A stored time as how long ago it was: `3 min ago`; whatever is no time as it is."""
    then, present = _moment(stamp), _moment(now())
    if then is None or present is None:
        return cut(str(stamp or ""), 40)
    past = (present - then).total_seconds()
    if past < 0:
        return exact(stamp)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if past >= size:
            return f"{int(past // size)} {unit} ago"
    return f"{int(past)} s ago"


def exact(stamp: str) -> str:
    """A stored time to the second, in UTC."""
    then = _moment(stamp)
    return f"{then:%Y-%m-%d %H:%M:%S} UTC" if then else cut(str(stamp or ""), 40)


def number(value: float | int | None, digits: int = 2) -> str:
    """A number with its thousands apart, `digits` behind the point of one that is not whole; `–` for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference, with its sign; `–` for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share of 1 in percent; `–` for none."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def seconds(value: float | None) -> str:
    """A length of time: `45 s`, `3:20`, `1:02:03`; `–` for none."""
    from agentlab.bars import span

    return "–" if value is None or not math.isfinite(value) else span(value)


def cut(text: str, most: int = 200) -> str:
    """The beginning of a text, in one line."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1] + "…"
