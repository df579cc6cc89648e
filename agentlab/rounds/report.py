"""What a round did, as the lab keeps it."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from agentlab.errors import UnreadableRecord
from agentlab.grid import Grid
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.learned_calls import LearnedTool
from memory.records import now

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

ENDED = ("done", "failed", "abandoned")
"""The phases of rounds that have ended; any other is the node that is next."""


class RoundReport(Grid, BaseModel):
    """What a round did. `phase` is `done` when it has ended, `failed` when it could not, `abandoned` when somebody gave
    it up, else where it stands.

    Attributes:
        playing: how the lab's model plays in it (`actor`, `think`, `samples`), where that is not by ranking.
        challenge: counts the candidates against this incumbent, this one included.
        dev_from: the first dev game of each environment that this round looks at; earlier gates have seen those before.
        balance: the temperature and threshold that were picked for this round, if that was asked for.
        collected: what each way to collect won, and what a search cost.
        revised: how many tasks had failures to revise, by which alpha, and how many revisions ran that far.
        calls: how many successes of games with tools were looked at, how many can be learned from, and the calls in
            these by their first word.
        judged: how many attempts and judgements a judge came to, how many of these could be read, and how often it
            preferred what the game scored higher.
        tools: the calls in what was selected, by tool and environment.
        selected: records to train on, by environment.
        kl_episodes: episodes of the KL regularisation to the base, by environment.
        left_out: how many were left out for which reason.
        short_of: how many were missing of a share of a rehearsal, or of questions.
        questions: how many questions were `trained` on and `held_out`, and how these were `answered`
            (`agentlab.rounds.questions.Answered`).
        society: the adapter of each agent of a society that learned something; `adapter` is that of the first.
        monitors: see `trainers.gate.Monitors`.
        forgetting: see `agentlab.rounds.retention.Retention`.
        retired: the reason for each reflection that was, or would be, retired.
    """

    id: str
    number: int
    config: RoundConfig
    phase: str = "collect"
    started_at: str = Field(default_factory=now)
    ended_at: str | None = None
    incumbent: str | None = None
    playing: dict[str, Any] = Field({}, exclude_if=operator.not_)
    challenge: int = Field(1, ge=1)
    dev_from: int = Field(0, ge=0)
    balance: dict[str, float] = {}
    collected: dict[str, dict[str, int]] = {}
    revised: dict[str, int | float] = {}
    calls: dict[str, int] = Field({}, exclude_if=operator.not_)
    judged: dict[str, int] = Field({}, exclude_if=operator.not_)
    tools: list[LearnedTool] = Field([], exclude_if=operator.not_)
    selected: dict[str, int] = {}
    kl_episodes: dict[str, int] = {}
    left_out: dict[str, int] = {}
    short_of: dict[str, int] = {}
    questions: dict[str, Any] = Field({}, exclude_if=operator.not_)
    adapter: str | None = None
    society: dict[str, str] = Field({}, exclude_if=operator.not_)
    training: dict[str, Any] = {}
    monitors: dict[str, Any] = {}
    gate: dict[str, Any] = {}
    forgetting: dict[str, Any] = {}
    promoted: bool | None = None
    retired: dict[str, str] = {}
    note: str = ""

    @property
    def grid(self) -> list[list[str]]:
        """What it played, trained on and came to; `model_dump` has all of it."""
        won = (f"{way} {part['won']} of {part['tasks']} games" for way, part in self.collected.items())
        lines = {
            "environments": ", ".join(self.config.envs),
            "phase": self.phase,
            "won while exploring": ", ".join(won),
            "trained on": f"{sum(self.selected.values())} episodes" if self.selected else "",
            "adapter": self.adapter or "",
            "society": ", ".join(f"{name} {id}" for name, id in self.society.items()),
            "promoted": "" if self.promoted is None else "yes" if self.promoted else "no",
            "gate": str(self.gate.get("reason", "")),
            "note": self.note,
        }
        return [["round", self.id], *([name, what] for name, what in lines.items() if what)]

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, fields: Any) -> Any:
        """What earlier versions stored, under the names of this one."""
        if not isinstance(fields, dict):
            return fields
        found = {"kl_episodes" if name == "held" else name: value for name, value in fields.items()}
        return {**found, "phase": "retention"} if found.get("phase") == "keep" else found

    @property
    def agent(self) -> str:
        """Which agent of a society the candidate is; empty where it is of none."""
        return next((name for name, id in self.society.items() if id == self.adapter), "")

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def dev_seeds(self) -> list[int]:
        """The dev games of each environment that this round looks at."""
        return list(range(self.dev_from, self.dev_from + self.config.dev_seeds))

    @property
    def temperature(self) -> float:
        """At which the model explores: as picked for this round, else as set."""
        return self.balance.get("temperature", self.config.temperature)


def reports(workspace: Workspace) -> list[RoundReport]:
    """All rounds of a lab, oldest first. Raises UnreadableRecord where one cannot be read: what comes next follows on
    all of them."""
    found, unreadable = readable_reports(workspace)
    if unreadable:
        raise UnreadableRecord(
            f"The record of {unreadable[0]} has not the form that this version reads; go on with the version that made "
            "it."
        )
    return found


def readable_reports(workspace: Workspace) -> tuple[list[RoundReport], list[str]]:
    """All rounds of a lab that can be read, oldest first, and the ids of the others."""
    found, unreadable = [], []
    for id, payload in workspace.database.rounds.all().items():
        try:
            found.append(RoundReport.model_validate(payload))
        except ValidationError:
            unreadable.append(id)
    return sorted(found, key=lambda report: report.number), unreadable


def load(workspace: Workspace, round_id: str) -> RoundReport:
    """The report of one round as it is stored."""
    return RoundReport.model_validate(workspace.database.rounds.get(round_id))


def save(workspace: Workspace, report: RoundReport, phase: str | None = None) -> None:
    """Store a report, in a new phase if one is given; one that ends the round also says when."""
    if phase is not None:
        report.phase = phase
        if report.ended:
            report.ended_at = now()
    workspace.database.rounds.put(report.id, report.model_dump(mode="json"))
