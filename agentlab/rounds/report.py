"""What a round did, as the lab keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from agentlab.rounds.config import RoundConfig
from memory.records import now

if TYPE_CHECKING:
    from agentlab.lab import Lab

ENDED = ("done", "failed", "abandoned")
"""The phases of rounds that have ended; any other is the node that is next."""


class RoundReport(BaseModel):
    """What a round did. `phase` is `done` when it has ended, `failed` when it could not, `abandoned` when somebody gave
    it up, else where it stands. `retired` gives the reason for each reflection that was, or would be, retired."""

    id: str
    number: int
    config: RoundConfig
    phase: str = "collect"
    started_at: str = Field(default_factory=now)
    ended_at: str | None = None
    incumbent: str | None = None
    collected: dict[str, dict[str, int]] = {}
    selected: dict[str, int] = {}
    left_out: dict[str, int] = {}
    adapter: str | None = None
    training: dict[str, Any] = {}
    gate: dict[str, Any] = {}
    promoted: bool | None = None
    retired: dict[str, str] = {}
    note: str = ""

    @property
    def ended(self) -> bool:
        return self.phase in ENDED


def reports(lab: Lab) -> list[RoundReport]:
    """All rounds of a lab, oldest first."""
    found = [RoundReport.model_validate(payload) for payload in lab.database.list_rounds().values()]
    return sorted(found, key=lambda report: report.number)


def load(lab: Lab, round_id: str) -> RoundReport:
    """The report of one round as it is stored."""
    return RoundReport.model_validate(lab.database.get_round(round_id))


def save(lab: Lab, report: RoundReport, phase: str | None = None) -> None:
    """Store a report, in a new phase if one is given; one that ends the round also says when."""
    if phase is not None:
        report.phase = phase
        if report.ended:
            report.ended_at = now()
    lab.database.put_round(report.id, report.model_dump(mode="json"))
