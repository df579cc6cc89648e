"""Home: what a lab is at, what its last rounds came to, how its memory stands, and what all of it took."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from agentlab.rounds.report import RoundReport, readable_reports
from agentlab.views.standings import kept
from agentlab.views.work import Work, work
from agentlab.workspace.workspace import Workspace
from memory.store import EpisodeFilter, EpisodeRow, Totals
from trainers.adapters import Change

PLAYED = EpisodeFilter(minimised=False)
"""Shortened forms of others nobody played."""

NEWEST = 8
"""Rows of a list on this page."""


CHANGES = 5
"""Changes of what serves, the last ones."""


SELDOM = 40
"""Sums that are not quick are made anew only after so many times as long as they took."""


class _Sums(NamedTuple):
    """What takes a pass over all rows."""

    totals: Totals
    census: list[tuple[Any, ...]]


class RoundLine(BaseModel):
    """A round in a line: the phase it is in, and what its gate said."""

    id: str
    phase: str
    began: str
    adapter: str | None
    promoted: bool | None
    gate: str


class EpisodeLine(BaseModel):
    """An episode in a line."""

    id: str
    env: str
    split: str
    seed: int
    arm: str
    status: str
    score: float
    steps: int
    started_at: str


class Took(BaseModel):
    """Episodes, and what they took; tokens are those that a model read and wrote, `cost` is in US dollars."""

    episodes: int
    won: int
    lost: int
    truncated: int
    errored: int
    steps: int
    seconds: float
    input_tokens: int
    output_tokens: int
    cost: float


class MemoryLine(BaseModel):
    """How many reflections there are, by their status, and how many of them a person has pinned."""

    items: int
    statuses: dict[str, int]
    pinned: int


class Home(BaseModel):
    """The first page of a lab. `served` are the last changes of what serves, the newest last."""

    folder: str
    model: str
    engine: str
    serving: str | None
    served: list[Change]
    work: Work | None
    took: Took
    memory: MemoryLine
    rounds: list[RoundLine]
    episodes: list[EpisodeLine]


def home(workspace: Workspace) -> Home:
    """Everything that a person wants to see first."""
    database, config = workspace.database, workspace.config
    sums = _sums(workspace)
    statuses: dict[str, int] = {}
    pinned = 0
    for status, *_, pins, count in sums.census:
        statuses[status] = statuses.get(status, 0) + count
        pinned += pins
    return Home(
        folder=str(workspace.folder),
        model=config.model,
        engine=config.engine,
        serving=workspace.serving(),
        served=list(workspace.adapters.history())[-CHANGES:],
        work=work(workspace),
        took=Took(**{("episodes" if name == "n" else name): value for name, value in sums.totals._asdict().items()}),
        memory=MemoryLine(items=sum(statuses.values()), statuses=statuses, pinned=pinned),
        rounds=[round_line(report) for report in readable_reports(workspace)[0][: -NEWEST - 1 : -1]],
        episodes=[episode_line(row) for row in database.episodes.find(PLAYED, limit=NEWEST, newest=True)],
    )


def _sums(workspace: Workspace) -> _Sums:
    """The sums over all episodes and reflections. Who looks at a large lab while it is played in sees them some seconds
    late: they cost most of the page, which is asked for every two seconds."""
    database = workspace.database

    def summed() -> _Sums:
        return _Sums(database.episodes.totals(), database.reflections.census(workspace.config.namespace))

    found: _Sums = kept(workspace, "home", database.connection.mark, summed, SELDOM)
    return found


def round_line(report: RoundReport) -> RoundLine:
    """A round in a line."""
    return RoundLine(
        id=report.id,
        phase=report.phase,
        began=report.started_at,
        adapter=report.adapter,
        promoted=report.promoted,
        gate=str(report.gate.get("reason", "") or report.note),
    )


def episode_line(row: EpisodeRow) -> EpisodeLine:
    """An episode in a line."""
    return EpisodeLine(**{name: getattr(row, name) for name in EpisodeLine.model_fields})
