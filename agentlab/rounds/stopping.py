"""Stopping: a series of rounds ends when the held-out score no longer rises."""

from __future__ import annotations

from collections.abc import Iterable

from agentlab.rounds.parts import StopConfig
from agentlab.rounds.report import RoundReport
from trainers.controller import EarlyStop


def course(reports: Iterable[RoundReport], settings: StopConfig) -> EarlyStop:
    """What is known after these rounds, scored by their candidates' rates of success at their gates.

    A gate that stops early has played fewer games; rounds are compared best where `gate.sequential` is off.
    """
    known = EarlyStop.model_validate(settings.model_dump())
    for report in reports:
        if report.phase == "done":
            known = known.after(report.number, held_out_score(report))
    return known


def held_out_score(report: RoundReport) -> float | None:
    """The rate of success of a round's candidate at the gate; None where nothing was measured."""
    rate = report.gate.get("candidate")
    return rate["won"] / rate["n"] if rate and rate["n"] else None
