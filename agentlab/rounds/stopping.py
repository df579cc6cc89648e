"""Stopping: a series of rounds ends when the held-out score no longer rises."""

from __future__ import annotations

from collections.abc import Iterable

from agentlab.rounds.parts import StopConfig
from agentlab.rounds.report import RoundReport
from trainers.gate import EarlyStop


def course(reports: Iterable[RoundReport], settings: StopConfig) -> EarlyStop:
    """What is known after these rounds, scored by how much more their candidates win than what served at first.

    Every gate has games of its own, and may stop early, so that rates of different rounds say nothing about each other.
    The difference between candidate and incumbent is paired on the same games, and the differences along the line of
    those that served add up. Where a gate stopped early for a success, its difference is somewhat too great.
    """
    known, gained, top = EarlyStop.model_validate(settings.model_dump()), dict[str | None, float](), 0.0
    for report in reports:
        if report.phase != "done":
            continue
        # What no round of these promoted, such as a merge, stands where the last that served does.
        before = gained.setdefault(report.incumbent, top)
        gain = difference(report)
        known = known.after(report.number, None if gain is None else before + gain)
        if report.promoted and gain is not None:
            gained[report.adapter] = top = before + gain
    return known


def difference(report: RoundReport) -> float | None:
    """By how much more of the gate's games the candidate won than the incumbent; None where nothing was measured."""
    pairs = report.gate.get("paired")
    return pairs["difference"] if pairs and pairs["n"] else None
