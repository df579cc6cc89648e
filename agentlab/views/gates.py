"""The gate of a round by game: what incumbent and candidate came to on each, and what the pairs add up to."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ValidationError

from agentlab.rounds.report import RoundReport
from agentlab.workspace.workspace import Workspace
from memory.store import EpisodeFilter, EpisodeRow
from trainers.gate import GateResult

Outcome = Literal["worse", "better", "errored", "unpaired", "neither", "both"]

OUTCOMES: tuple[Outcome, ...] = ("worse", "better", "errored", "unpaired", "neither", "both")
"""In the order in which a person wants to see them: what got worse comes first."""


class Side(BaseModel):
    """How one side played a game."""

    episode: str
    status: str
    score: float
    steps: int


class Game(BaseModel):
    """A game of the gate, as either side played it. `outcome` is the candidate's, beside the incumbent's."""

    env: str
    split: str
    seed: int
    incumbent: Side | None = None
    candidate: Side | None = None
    outcome: Outcome


class Gate(BaseModel):
    """The gate of a round: its decision if there is one, and its games, those that only one side won first.

    `level` is what the two-sided p-value must lie below; `counts` are the games by outcome, `total` how many there are.
    """

    decision: GateResult | None = None
    reason: str = ""
    level: float | None = None
    counts: dict[Outcome, int] = {}
    total: int = 0
    games: list[Game] = []


def decision(report: RoundReport) -> GateResult | None:
    """What the gate of a round decided; None where it did not yet, or left what is none of this version."""
    try:
        return GateResult.model_validate(report.gate) if report.gate else None
    except ValidationError:
        return None


def gate(workspace: Workspace, report: RoundReport, *, offset: int = 0, size: int = 50) -> Gate:
    """The gate of a round with a part of its games; while it is played, with those that are played."""
    found, games = decision(report), _games(workspace, report)
    counts = Counter(game.outcome for game in games)
    return Gate(
        decision=found,
        reason=str(report.gate.get("reason", "")),
        level=found.level if found else None,
        counts={outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]},
        total=len(games),
        games=games[offset : offset + size],
    )


def _games(workspace: Workspace, report: RoundReport) -> list[Game]:
    sides: dict[str, dict[bool, EpisodeRow]] = {}
    for row in workspace.database.episodes.find(EpisodeFilter(run=f"{report.id}-gate", minimised=False)):
        ours = row.arm.startswith("candidate ")
        known = sides.setdefault(row.task, {}).get(ours)
        # What errored was played again; the first trial counts.
        if known is None or known.status == "errored":
            sides[row.task][ours] = row
    games = [_game(of.get(False), of.get(True)) for of in sides.values()]
    return sorted(games, key=lambda game: (OUTCOMES.index(game.outcome), game.env, game.split, game.seed))


def _game(theirs: EpisodeRow | None, ours: EpisodeRow | None) -> Game:
    row = ours or theirs
    assert row is not None
    return Game(
        env=row.env,
        split=row.split,
        seed=row.seed,
        incumbent=_side(theirs),
        candidate=_side(ours),
        outcome=_outcome(theirs, ours),
    )


def _side(row: EpisodeRow | None) -> Side | None:
    return None if row is None else Side(episode=row.id, status=row.status, score=row.score, steps=row.steps)


def _outcome(theirs: EpisodeRow | None, ours: EpisodeRow | None) -> Outcome:
    if theirs is None or ours is None:
        return "unpaired"
    if "errored" in (theirs.status, ours.status):
        return "errored"
    if ours.won == theirs.won:
        return "both" if ours.won else "neither"
    return "better" if ours.won else "worse"
