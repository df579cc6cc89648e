"""A series of rounds within minutes: each plays more games than the one before, as long as that still improves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentlab.rounds.config import MOST_GAMES, RoundConfig
from agentlab.rounds.graph import run_round
from agentlab.rounds.parts import StopConfig
from agentlab.rounds.report import RoundReport, reports
from agentlab.rounds.stopping import course

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

GROWTH = 2
"""By how much the games of a round grow from one to the next."""


def run_series(workspace: Workspace, config: RoundConfig, minutes: float) -> Iterator[RoundReport]:
    """Rounds one after the other, each as it ends, within so many minutes.

    The first plays the games of the settings, which nothing shortens. Each further one plays new ones, twice as many,
    or as many as what is left of the time lets it, going by how long the last took; where that is fewer than the last
    had, the series ends. It ends too when the score on held-out games rises no longer (`early_stop`, by default its
    defaults). Raises what `run_round` does.
    """
    ends, stop = time.monotonic() + 60 * minutes, config.early_stop or StopConfig()
    asked: RoundConfig | None = config
    before = sum(report.ended for report in reports(workspace))
    while asked is not None:
        began = time.monotonic()
        report = run_round(workspace, asked)
        yield report
        now = time.monotonic()
        known = course(reports(workspace)[before:], stop)
        asked = None if known.stop else following(report.config, report.number, now - began, ends - now)


def following(config: RoundConfig, number: int, took: float, left: float) -> RoundConfig | None:
    """The settings of the round after round `number`, which took so many seconds; None if no more fits into what is
    left."""
    games = min(GROWTH * config.seeds, int(config.seeds * left / took) if took > 0 else MOST_GAMES, MOST_GAMES)
    if games < config.seeds:
        return None
    # The blocks of rounds that never play fewer games than the one before do not overlap; a named start has to move.
    first = None if config.first_seed is None else config.train_seeds(number).stop
    return config.model_copy(update={"seeds": games, "first_seed": first})
