"""What was watched of a round's adapter, with what is good in each figure; none of them decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from agentlab.rounds.report import RoundReport
    from trainers.gate import Estimate, Monitors

GOOD = {
    "Pass@1": "much is good: Pass@1, Pass@K, distinct successes",
    "action entropy": "action entropy at 0: it explores nothing any more",
    "drift": "drift above 0: what was trained became likelier, at 0: the adapter changes nothing",
}
"""What is good and bad in the monitors."""

STILL = 0.005
"""Action entropy, as a share of the highest, that shows as 0."""

Mark = Literal["good", "bad", ""]


class Figure(BaseModel):
    """A measured figure over `n` things with its 95 % interval, if it has one, and what is good in it.

    `mark` is empty where there is no threshold: such figures are compared between rounds.
    """

    name: str
    value: float
    n: int
    of: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    good: str = ""
    mark: Mark = ""


class Watched(BaseModel):
    """The monitors of a round: what they rest on, and the figures that were measured."""

    basis: str = ""
    figures: list[Figure] = []


def watched(report: RoundReport) -> Watched:
    """The monitors of a round; empty where nothing was measured."""
    found = known(report.monitors)
    if found is None:
        return Watched()
    figures = [
        _figure("Pass@1", found.pass_at_1, "games", good="much is good"),
        _figure(f"Pass@{found.k}", found.pass_at_k, "games", good="far above Pass@1: it can do more than it does"),
        _figure(
            f"Pass@{found.k}-{found.s}",
            found.pass_at_k_s,
            "games",
            good="much is good; at 0 it wins one way only, always the same",
            mark=_several_ways(found),
        ),
        _figure(
            "distinct successes",
            _share(found),
            "won episodes",
            good="many distinct are good",
        ),
        _figure(
            "action entropy",
            found.entropy,
            "steps",
            unit="nats",
            good="falls while it learns; near 0 it explores nothing any more",
            mark="bad" if found.evenness is not None and found.evenness.value < STILL else "",
        ),
        _figure("evenness", found.evenness, "steps", good="action entropy as a share of the highest"),
        _figure(
            "drift",
            found.drift,
            "examples",
            unit="nats a token",
            good="above 0: what was trained became likelier; 0: the adapter changes nothing",
            mark=_drifted(found.drift),
        ),
    ]
    figures += _questions(report)
    return Watched(basis=basis(report), figures=[figure for figure in figures if figure is not None])


def known(monitors: dict[str, Any]) -> Monitors | None:
    """The monitors as they are stored in a report; None where there are none, or none of this version."""
    from trainers.gate import Monitors

    try:
        return Monitors.model_validate(monitors) if monitors else None
    except ValidationError:
        return None


def basis(report: RoundReport) -> str:
    """What the monitors rest on."""
    monitor = report.config.monitor
    if monitor.tasks:
        return (
            f"The new adapter, {monitor.k} trials of {monitor.tasks} dev games each, no memory, "
            f"temperature {monitor.temperature:g}:"
        )
    if not report.monitors.get("pass_at_1"):
        return "The new adapter, which played nothing yet:"
    early = ", which stopped early" if report.gate.get("saved") else ""
    return f"The new adapter, its games at the gate{early}: once each, no memory, best command:"


def _figure(
    name: str, estimate: Estimate | None, of: str, *, unit: str = "", good: str = "", mark: Mark = ""
) -> Figure | None:
    if estimate is None:
        return None
    return Figure(name=name, of=of, unit=unit, good=good, mark=mark, **estimate.model_dump())


def _questions(report: RoundReport) -> list[Figure]:
    """How many held-out questions the base and the new adapter answer right."""
    found = report.questions.get("answered")
    if not found:
        return []
    return [
        Figure(
            name=f"held-out questions right, {when}",
            value=found[when] / found["n"],
            n=found["n"],
            of="questions",
            low=found[f"{when}_interval"][0],
            high=found[f"{when}_interval"][1],
            good=f"much is good; by chance {found['chance']:.2f}",
        )
        for when in ("before", "after")
    ]


def _share(found: Monitors) -> Estimate | None:
    from trainers.gate import Estimate

    return Estimate(value=found.distinct, n=found.successes) if found.successes else None


def _several_ways(found: Monitors) -> Mark:
    return "bad" if found.pass_at_k_s is not None and not found.pass_at_k_s.value else ""


def _drifted(drift: Estimate | None) -> Mark:
    if drift is None or drift.low is None or drift.high is None:
        return ""
    return "good" if drift.low > 0 else "bad"
