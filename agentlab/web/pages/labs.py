"""The first page where a folder holds several labs."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from agentlab.views.home import Took
from agentlab.views.home import home as home_of
from agentlab.web.looking import Looking


class LabLine(BaseModel):
    """A lab in a line; `problem` says why it cannot be read, and then there is nothing else."""

    name: str
    model: str = ""
    serving: str | None = None
    at_work: bool = False
    took: Took | None = None
    problem: str = ""


class Labs(BaseModel):
    """All labs of a folder."""

    labs: list[LabLine]


def labs(found: Sequence[Looking]) -> Labs:
    """Each lab in a line."""
    return Labs(labs=[_line(lab) for lab in found])


def _line(lab: Looking) -> LabLine:
    try:
        seen = home_of(lab.workspace)
    except Exception as error:  # one that is broken hides no other
        return LabLine(name=lab.name, problem=str(error))
    return LabLine(name=lab.name, model=seen.model, serving=seen.serving, at_work=seen.work is not None, took=seen.took)
