"""Distillation rounds: all of them in lines, one with everything that is known of it, and two beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from agentlab.errors import UnknownRound, UnreadableRecord
from agentlab.rounds.calling import writes_calls
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.graph import NODES
from agentlab.rounds.judging import judges
from agentlab.rounds.practising import work_folder
from agentlab.rounds.report import RoundReport, readable_reports
from agentlab.rounds.retention import Retention
from agentlab.views.curves import Curve, curve
from agentlab.views.gates import Gate, decision, gate
from agentlab.views.monitors import Watched, watched
from agentlab.views.training_examples import count, folder_of
from agentlab.views.work import Work, work
from agentlab.workspace.workspace import Workspace
from trainers.errors import TrainersError
from trainers.gate import GateResult, wilson
from trainers.training import Canary

EITHER = "promote or reject"
"""The phase that follows a gate which has not decided yet."""

SIZE = 50
"""Rounds of a part of the list, and games of a part of a gate."""


class RoundRow(BaseModel):
    """A round in a line. `games` are those that were explored, `examples` what was trained on."""

    id: str
    envs: list[str]
    phase: str
    started_at: str
    ended_at: str | None
    games: int
    won: int
    examples: int
    first_loss: float | None
    last_loss: float | None
    adapter: str | None
    promoted: bool | None
    gate: GateResult | None
    reason: str


class Rounds(BaseModel):
    """A part of the `total` rounds, the newest first, what serves now, and the ids of rounds that are `unreadable`."""

    total: int
    offset: int
    serving: str | None
    rounds: list[RoundRow]
    unreadable: list[str] = []


class Phase(BaseModel):
    """A phase of a round: `done`, `now`, `next`, or `passed over`."""

    name: str
    state: str


class Way(BaseModel):
    """What one way to collect came to, with the 95 % interval of its rate."""

    name: str
    tasks: int
    won: int
    low: float
    high: float
    cost: dict[str, int] = {}


class Funnel(BaseModel):
    """The selection: what was collected, and of the `considered` records what was selected and what left out, and why.

    `selected` and `kl_episodes` are by environment, `left_out` and `short_of` by the reason, the most first.
    """

    collected: list[Way]
    considered: int
    selected: dict[str, int]
    left_out: dict[str, int]
    short_of: dict[str, int]
    kl_episodes: dict[str, int]
    revised: dict[str, int | float]
    calls: dict[str, int]
    judged: dict[str, int]
    examples: int


class Setting(BaseModel):
    """A setting with its default."""

    name: str
    value: Any
    default: Any
    changed: bool


class Round(BaseModel):
    """One round: its report, and what else there is of it.

    Attributes:
        work: what is in flight in the lab, while the round has not ended.
        offset: of the games of the gate that are shown.
        canary: of the adapter that came out, if it is there.
        others: the ids of all rounds.
    """

    report: RoundReport
    phases: list[Phase]
    work: Work | None
    settings: list[Setting]
    funnel: Funnel
    curve: Curve
    watched: Watched
    gate: Gate
    offset: int = 0
    canary: Canary | None
    retention: Retention | None
    others: list[str]

    @property
    def explored(self) -> tuple[int, int]:
        """Games explored, and won."""
        return sum(way.tasks for way in self.funnel.collected), sum(way.won for way in self.funnel.collected)


class Differing(BaseModel):
    """A setting in which two rounds differ."""

    name: str
    a: Any
    b: Any


class Beside(BaseModel):
    """Two rounds beside each other."""

    a: Round
    b: Round
    settings: list[Differing]


def rounds(workspace: Workspace, offset: int = 0) -> Rounds:
    """The rounds of a lab, the newest first."""
    found, unreadable = readable_reports(workspace)
    found.reverse()
    return Rounds(
        total=len(found),
        offset=offset,
        serving=workspace.serving(),
        rounds=[row(report) for report in found[offset : offset + SIZE]],
        unreadable=unreadable,
    )


def row(report: RoundReport) -> RoundRow:
    """A round in a line."""
    return RoundRow(
        id=report.id,
        envs=report.config.envs,
        phase=report.phase,
        started_at=report.started_at,
        ended_at=report.ended_at,
        games=sum(part.get("tasks", 0) for part in report.collected.values()),
        won=sum(part.get("won", 0) for part in report.collected.values()),
        examples=sum(report.selected.values()),
        first_loss=_number(report.training.get("first_loss")),
        last_loss=_number(report.training.get("last_loss")),
        adapter=report.adapter,
        promoted=report.promoted,
        gate=decision(report),
        reason=str(report.gate.get("reason", "") or report.note),
    )


def find_round(workspace: Workspace, id: str) -> RoundReport:
    """The round with this id, or this number. Raises UnknownRound with the nearest id."""
    return _find(*readable_reports(workspace), id)


def _find(found: list[RoundReport], unreadable: list[str], id: str) -> RoundReport:
    known = {report.id: report for report in found}
    wanted = f"round-{id}" if id.isdecimal() else id
    if wanted in known:
        return known[wanted]
    if wanted in unreadable:
        raise UnreadableRecord(f"The record of {wanted} has not the form that this version reads.")
    near = get_close_matches(wanted, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`agentlab rounds list` shows which there are."
    raise UnknownRound(f"No round has the id '{id}'; {hint}")


def one_round(workspace: Workspace, id: str, offset: int = 0) -> Round:
    """All that is known of a round, with the games of its gate from `offset` on. Raises UnknownRound."""
    found, unreadable = readable_reports(workspace)
    report = _find(found, unreadable, id)
    folder = folder_of(workspace, report.id)
    return Round(
        report=report,
        phases=phases(report),
        work=None if report.ended else work(workspace),
        settings=settings(report.config),
        funnel=funnel(report, count(folder)),
        curve=curve(folder if folder.exists() else work_folder(folder)),
        watched=watched(report),
        gate=gate(workspace, report, offset=offset, size=SIZE),
        offset=offset,
        canary=canary(workspace, report.adapter),
        retention=_retention(report),
        others=[other.id for other in found],
    )


def beside(workspace: Workspace, id: str, other: str = "") -> Beside:
    """Two rounds beside each other; without another one, with the round before it. Raises UnknownRound."""
    found, unreadable = readable_reports(workspace)
    report = _find(found, unreadable, id)
    if not other:
        at = found.index(report)
        other = found[at - 1].id if at else found[min(1, len(found) - 1)].id
    a, b = one_round(workspace, other), one_round(workspace, report.id)
    ours, theirs = ({setting.name: setting.value for setting in one.settings} for one in (a, b))
    names = dict.fromkeys([*ours, *theirs])
    differing = [(name, ours.get(name), theirs.get(name)) for name in names]
    return Beside(a=a, b=b, settings=[Differing(name=name, a=x, b=y) for name, x, y in differing if x != y])


def phases(report: RoundReport) -> list[Phase]:
    """The phases that a round goes through, and where it is in them."""
    decided = "promote" if report.promoted else "reject" if report.promoted is not None else None
    shown = decided or (report.phase if report.phase in ("promote", "reject") else EITHER)
    left_out = {"promote"} | (set() if report.config.balance else {"balance"})
    left_out |= set() if report.config.revise else {"revise"}
    left_out |= set() if writes_calls(report.config) else {"call"}
    left_out |= set() if judges(report.config) else {"judge"}
    # Each of these does by itself what is usually done by several nodes.
    whole = {"practise", "society"}
    left_out |= {"collect", "call", "select", "train"} if report.config.begins in whole else set()
    left_out |= whole - {report.config.begins}
    names = [shown if name == "reject" else name for name in NODES if name not in left_out or name == report.phase]
    names = list(dict.fromkeys(names))
    at = names.index(report.phase) if report.phase in names else _reached(report, names)
    states = ("done", "passed over", "passed over") if report.ended else ("done", "now", "next")
    return [Phase(name=name, state=states[(index >= at) + (index > at)]) for index, name in enumerate(names)]


def _reached(report: RoundReport, names: list[str]) -> int:
    """How many phases a round had behind it when it ended."""
    if report.phase == "done":
        return len(names)
    marks = {
        "retire": report.promoted is not None,
        "retention": bool(report.gate),
        "gate": bool(report.monitors),
        "monitor": report.adapter is not None,
        "train": bool(report.selected),
        "select": bool(report.collected),
    }
    return next((names.index(name) for name, done in marks.items() if done and name in names), 0)


def funnel(report: RoundReport, examples: int = 0) -> Funnel:
    """The selection of a round, in its counts."""
    chosen, left = sum(report.selected.values()), sum(report.left_out.values())
    return Funnel(
        collected=[_way(name, part) for name, part in report.collected.items()],
        considered=chosen + left,
        selected=_most_first(report.selected),
        left_out=_most_first(report.left_out),
        short_of=_most_first(report.short_of),
        kl_episodes=_most_first(report.kl_episodes),
        revised=report.revised,
        calls=report.calls,
        judged=report.judged,
        examples=examples,
    )


def _way(name: str, part: Mapping[str, int]) -> Way:
    tasks, won = part.get("tasks", 0), part.get("won", 0)
    low, high = wilson(won, tasks) if 0 <= won <= tasks else (0.0, 1.0)
    cost = {what: value for what, value in part.items() if what not in ("tasks", "won")}
    return Way(name=name, tasks=tasks, won=won, low=low, high=high, cost=cost)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def settings(config: RoundConfig) -> list[Setting]:
    """The settings of a round by their full names, and whether they are otherwise than usual."""
    usual = dict(_flat(RoundConfig(envs=config.envs).model_dump(mode="json")))
    found = dict(_flat(config.model_dump(mode="json")))
    names = [*found, *(name for name in usual if name not in found)]
    return [
        Setting(
            name=name,
            value=found.get(name),
            default=usual.get(name),
            changed=name != "envs" and found.get(name) != usual.get(name),
        )
        for name in names
    ]


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def canary(workspace: Workspace, adapter: str | None) -> Canary | None:
    """The canary of an adapter; None where it cannot be read, or there is no adapter."""
    if adapter is None:
        return None
    try:
        return Canary.load(workspace.folder / workspace.adapters.get(adapter).path / "canary.json")
    except TrainersError:
        return None


def _retention(report: RoundReport) -> Retention | None:
    try:
        return Retention.model_validate(report.forgetting) if report.forgetting else None
    except ValidationError:
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
