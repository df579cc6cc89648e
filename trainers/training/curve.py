"""The training curve of a job: loss and learning rate, a line a step, there while it trains and after that.

A kill can tear the last line, and training then goes on from an earlier step: whoever reads leaves out what is torn,
and whoever goes on first takes away what its last checkpoint does not know.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel

from memory.text import loaded

NAME = "curve.jsonl"


class Point(BaseModel):
    """One step of `steps`: its loss, its learning rate, and what the objective measured beside them."""

    step: int
    steps: int
    loss: float
    learning_rate: float | None = None
    measures: dict[str, float] = {}


class Curve:
    """The curve in a job folder, for the process that trains."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def begin(self, after: int) -> None:
        """Keep what is known up to step `after`, from which training goes on."""
        known = read_curve(self.path.parent)
        beside = self.path.with_name(f"{NAME}.partial")
        beside.write_text("".join(map(_line, (point for point in known if point.step <= after))), encoding="utf-8")
        os.replace(beside, self.path)

    def add(self, point: Point) -> None:
        """Add a step."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(point))


def _line(point: Point) -> str:
    # Not pydantic's JSON, which has null for a loss that is no number: that one is worth seeing.
    return json.dumps(point.model_dump(exclude_defaults=True)) + "\n"


def read_curve(folder: Path) -> list[Point]:
    """The curve in a job folder, by step; of a finished job without one, as earlier versions left it, its losses.

    Empty where nothing was trained yet. What cannot be read is left out.
    """
    found: dict[int, Point] = {}
    try:
        lines = (folder / NAME).read_bytes().split(b"\n")
    except OSError:
        return _reported(folder)
    for line in lines:
        try:
            point = Point.model_validate(loaded(line))
        except ValueError:
            continue
        found[point.step] = point
    return [found[step] for step in sorted(found)]


def _reported(folder: Path) -> list[Point]:
    try:
        losses = loaded((folder / "report.json").read_bytes())["losses"]
        return [Point(step=number, steps=len(losses), loss=loss) for number, loss in enumerate(losses, 1)]
    except (OSError, ValueError, LookupError, TypeError):
        return []
