"""Comparison: an evaluation's arms by environment, arm against arm on the same games, and the games behind a number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from agentlab.errors import UnknownEvaluation, UnreadableRecord
from agentlab.experiments.evaluation import ALL, Cell, Comparison, Row, Table
from agentlab.experiments.two_by_two import CELLS, Effect, in_common, internalised, simple_effects
from agentlab.workspace.workspace import Workspace
from memory.records import task_parts
from memory.store import Played
from trainers.gate import Ratio, holm, wilson

SIZE = 50
"""Games of a page."""

FEW = 60
"""Games whose bootstrap is done at once."""


class EvaluationLine(BaseModel):
    """An evaluation in a line."""

    name: str
    date: str
    split: str
    envs: list[str]
    arms: list[str]
    games: int


class Evaluations(BaseModel):
    """All evaluations of a lab, the newest first, and the names of those that are `unreadable`."""

    evaluations: list[EvaluationLine]
    unreadable: list[str] = []


class ArmLine(BaseModel):
    """An arm: its rates by environment, `all` among them where there are several, within so many trials."""

    arm: str
    trials: int
    cells: dict[str, Cell]
    tokens: int
    cost: float


class Pair(Comparison):
    """Two arms on the same games. `p` is McNemar's for this pair alone, `p_holm` corrected for all pairs shown."""

    p_holm: float


class GameResult(BaseModel):
    """How an arm fared in a game (None: an error hides it), and the episode that shows it."""

    arm: str
    won: bool | None
    episode: str | None


class Game(BaseModel):
    """A game, with what each arm made of it."""

    task: str
    env: str
    split: str
    seed: str
    results: list[GameResult]

    def result(self, arm: str) -> GameResult:
        """That of one arm."""
        return next(result for result in self.results if result.arm == arm)


class Rate(BaseModel):
    """A rate: successes of n, with its Wilson 95 % interval."""

    wins: int
    n: int
    low: float
    high: float


class Factors(BaseModel):
    """Memory off and on × an old and a new adapter, over the games that all four arms played to their end: the rates
    of these too, so that they subtract to the gains.

    `internalised` is the share of the memory's gain that the new adapter has without memory; None where it was not
    asked for.
    """

    old: str
    new: str
    cells: dict[str, Rate]
    effects: list[Effect]
    internalised: Ratio | None

    def effect(self, of: str, at: str) -> Any:
        """One of the four simple effects."""
        return next(effect.paired for effect in self.effects if (effect.of, effect.at) == (of, at))


class ComparisonView(BaseModel):
    """An evaluation. `games` are a page of the `total` ones that `shown` says in words: of a cell, or won by one arm
    alone."""

    name: str
    date: str
    split: str
    seeds: list[int]
    model: str
    columns: list[str]
    arms: list[ArmLine]
    pairs: list[Pair]
    shown: str
    total: int
    offset: int
    size: int
    games: list[Game]
    factors: Factors | None


def evaluations(workspace: Workspace) -> Evaluations:
    """Every evaluation of a lab in a line."""
    found, unreadable = _stored(workspace)
    lines = [_line(name, table) for name, table in found.items()]
    return Evaluations(
        evaluations=sorted(lines, key=lambda line: line.date, reverse=True),
        unreadable=unreadable,
    )


def tables(workspace: Workspace) -> dict[str, Table]:
    """The evaluations of a lab by their names, without those of which nothing was measured yet, or that cannot be
    read."""
    return _stored(workspace)[0]


def _stored(workspace: Workspace) -> tuple[dict[str, Table], list[str]]:
    """The evaluations of which something was measured, and the names of those that cannot be read."""
    found, unreadable = {}, []
    for name, payload in workspace.database.evaluations.all().items():
        try:
            table = Table.model_validate({"envs": [], "rows": []} if payload == {} else payload)
        except ValidationError:
            unreadable.append(name)
            continue
        if table.rows:
            found[name] = table
    return found, unreadable


def comparison(
    workspace: Workspace,
    name: str,
    *,
    arm: str | None = None,
    env: str | None = None,
    against: str | None = None,
    only: str | None = None,
    share: bool = False,
    offset: int = 0,
) -> ComparisonView:
    """One evaluation, with those games that are asked for.

    With `arm` and `against` these two are compared as well, that way round; `only` then names the one that won the
    games alone which are listed. `env` leaves the games of one environment. The internalised share is found by a
    bootstrap, which takes seconds for many games: it is there for few, or if `share` asks for it. Raises
    UnknownEvaluation, and UnreadableRecord.
    """
    payload = workspace.database.evaluations.get(name)
    if not payload or not payload.get("rows"):
        raise UnknownEvaluation(f"No evaluation is called {name!r}; `agentlab eval` makes one.")
    try:
        table = Table.model_validate(payload)
    except ValidationError as odd:
        raise UnreadableRecord(
            f"The evaluation {name!r} has not the form that this version reads; `agentlab eval --name` measures it "
            "again under another name."
        ) from odd
    rows = {row.arm: row for row in table.rows}
    for asked in (arm, against, only):
        if asked is not None and asked not in rows:
            raise UnknownEvaluation(f"{name} has no arm {asked!r}; it has: {', '.join(rows)}.")
    if arm and against and arm != against:
        # Turned round it is the same test, and counts once in the correction.
        table.comparisons = [one for one in table.comparisons if {one.arm, one.against} != {arm, against}]
        table.compare(arm, against)
    tasks = _tasks(table, env)
    shown = f"games of {env}" if env and env != ALL else "all games"
    if only and arm and against and arm != against:
        loser = against if only == arm else arm
        tasks = [task for task in tasks if rows[only].outcomes.get(task) and rows[loser].outcomes.get(task) is False]
        shown = f"games won by {only} alone, not by {loser}" + (f", in {env}" if env and env != ALL else "")
    page = tasks[offset : offset + SIZE]
    about = table.about
    return ComparisonView(
        name=name,
        date=str(about.get("date", "")),
        split=str(about.get("split", "")),
        seeds=list(about.get("seeds", [])),
        model=str(about.get("model", "")),
        columns=[*table.envs, ALL] if len(table.envs) > 1 else table.envs,
        arms=[arm_line(row) for row in table.rows],
        pairs=pairs(table.comparisons),
        shown=shown,
        total=len(tasks),
        offset=offset,
        size=SIZE,
        games=_games(workspace, name, table, page),
        factors=_factors(table, share),
    )


def arm_line(row: Row) -> ArmLine:
    """A row without its outcomes."""
    took = row.usage
    return ArmLine(
        arm=row.arm,
        trials=row.trials,
        cells=row.cells,
        tokens=took.input_tokens + took.output_tokens,
        cost=took.cost,
    )


def pairs(comparisons: Sequence[Comparison]) -> list[Pair]:
    """Comparisons with their p corrected for each other (Holm 1979)."""
    corrected = holm([one.p for one in comparisons])
    return [Pair(**one.model_dump(), p_holm=p) for one, p in zip(comparisons, corrected, strict=True)]


def _line(name: str, table: Table) -> EvaluationLine:
    return EvaluationLine(
        name=name,
        date=str(table.about.get("date", "")),
        split=str(table.about.get("split", "")),
        envs=table.envs,
        arms=[row.arm for row in table.rows],
        games=len({task for row in table.rows for task in row.outcomes}),
    )


def _tasks(table: Table, env: str | None = None) -> list[str]:
    """The games of an evaluation, or of one of its environments, in their order."""
    found = dict.fromkeys(task for row in table.rows for task in row.outcomes)
    return [task for task in found if env in (None, ALL) or task_parts(task).env == env]


def _games(workspace: Workspace, name: str, table: Table, tasks: Sequence[str]) -> list[Game]:
    played: dict[tuple[str, str], dict[int, Played]] = {}
    for one in workspace.database.episode_listing.of_tasks(tasks, runs_of(name, table)):
        played.setdefault((one.task, one.arm), {})[one.trial] = one  # played again: the newest
    return [
        Game(
            task=task,
            **task_parts(task)._asdict(),
            results=[
                GameResult(
                    arm=row.arm,
                    won=row.outcomes.get(task),
                    episode=_shows(played.get((task, _arm(row, table)), {}), row.trials),
                )
                for row in table.rows
                if task in row.outcomes
            ],
        )
        for task in tasks
    ]


def _shows(trials: dict[int, Played], within: int) -> str | None:
    """Of the first trials the one that won, else the last."""
    seen = [trials[trial] for trial in sorted(trials) if trial < within]
    best = next((one for one in seen if one.status == "won"), seen[-1] if seen else None)
    return best.id if best else None


def _arm(row: Row, table: Table) -> str:
    """The name under which the episodes of a row are kept."""
    if row.trials == 1 or row.arm in table.about.get("arms", {}):
        return row.arm
    return row.arm.removesuffix(f", {row.trials} trials").removesuffix(" + retry")


def runs_of(name: str, table: Table) -> list[str]:
    """The runs in which the episodes of an evaluation were played."""
    if runs := table.about.get("runs"):
        return list(dict.fromkeys(runs.values()))
    # Earlier versions did not note it. What a record is called begins with the names of its runs.
    return list(dict.fromkeys([name, re.sub(r"-[a-z2-7]{16}$", "", name), re.sub(r"-\d+$", "", name)]))


def _factors(table: Table, share: bool) -> Factors | None:
    """The 2×2, if the evaluation has two sides that each played without memory and with it."""
    rows = {row.arm: row for row in table.rows if row.trials == 1}
    sides = [arm for arm in rows if f"{arm} + memory" in rows]
    if len(sides) != 2:
        return None
    old, new = sorted(sides, key=lambda side: side != "base")
    four = [rows[arm] for side in (old, new) for arm in (side, f"{side} + memory")]
    cells = dict(zip(CELLS, four, strict=True))
    known, tasks = in_common(cells)
    if not tasks:
        return None
    return Factors(
        old=old,
        new=new,
        cells={name: _rate(outcomes[task] for task in tasks) for name, outcomes in known.items()},
        effects=simple_effects(known, tasks),
        internalised=internalised(known, tasks, table.envs) if share or len(tasks) <= FEW else None,
    )


def _rate(won: Iterable[bool]) -> Rate:
    marks = list(won)
    low, high = wilson(sum(marks), len(marks))
    return Rate(wins=sum(marks), n=len(marks), low=low, high=high)
