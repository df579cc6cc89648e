"""What a person sees of a round: what it collected, selected and trained, and what the gate said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlab.cli import monitors, output
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.rounds import RoundReport


def print_reports(reports: list[RoundReport], json: bool) -> None:
    """Print rounds for a person, or as JSON."""
    if json:
        output.as_json(reports)
        return
    for report in reports:
        print_report(report)


def print_report(report: RoundReport) -> None:
    """Print a round for a person; its verdict last."""
    collected = (f"{way}: {part['won']} of {part['tasks']} games won" for way, part in report.collected.items())
    output.say(f"{report.id}  {', '.join(report.config.envs)}", "bold")
    output.facts(
        [
            ("phase", report.phase),
            ("started", output.ago(report.started_at)),
            ("incumbent", report.incumbent or "the base model"),
            ("plays by", _counts(report.playing)),
            ("balance", _counts(report.balance)),
            ("collected", "; ".join(collected)),
            ("search cost", _costs(report.collected)),
            ("steps to refine", str(sum(part.get("refining", 0) for part in report.collected.values()))),
            ("revised", _counts(report.revised)),
            ("calls of tools", _counts(report.calls)),
            ("judged", _counts(report.judged)),
            ("selected", _selected(report)),
            ("KL to the base", _counts(report.kl_episodes)),
            ("left out", _counts(report.left_out)),
            ("short of", _counts(report.short_of)),
            ("held-out questions", _answered(report)),
            ("objective", report.config.training.objective if report.training else None),
            ("society", _counts(report.society)),
            ("of these", report.agent and f"training, monitors and gate below are of {report.agent} alone"),
            ("training", _counts(report.training)),
            ("adapter", report.adapter),
            ("gate", report.gate.get("reason")),
            ("looks", _looks(report.gate)),
            ("note", report.note),
        ]
    )
    monitors.show(report)
    if report.retired:
        dry = report.config.retire == "dry-run"
        output.say("Would be retired:" if dry else "Retired (`agentlab memory restore ID` brings one back):")
        output.facts(report.retired.items())
    if report.promoted is not None:
        verdict = "Promoted: it serves now." if report.promoted else "Rejected: the incumbent goes on serving."
        output.say(verdict, "green" if report.promoted else "red")


def _answered(report: RoundReport) -> str:
    """How many held-out questions were answered right, before the training and after it."""
    from agentlab.rounds.questions import Answered

    found = report.questions.get("answered")
    if not found and report.questions.get("held_out") == 0:
        return "none: too few games for one to be held out with a question of its own; more seeds have some"
    return Answered.model_validate(found).line if found else ""


def _selected(report: RoundReport) -> str:
    """How many examples were selected, by environment; of a society those of all agents."""
    found = _counts(report.selected)
    return f"{found} (examples of all agents)" if found and report.config.society else found


def _costs(collected: dict[str, dict[str, int]]) -> str:
    """What the searches of a round cost, all together."""
    names = ("steps", "replayed", "calls", "tokens")
    parts = [part for part in collected.values() if "steps" in part]
    return ", ".join(f"{name} {sum(part[name] for part in parts)}" for name in names) if parts else ""


def _looks(gate: dict[str, Any]) -> str:
    """What a sequential gate took and spared."""
    if not gate.get("looks"):
        return ""
    planned, saved = gate["planned"], gate["saved"]
    return f"{len(gate['looks'])} of at most {gate['config']['looks']}; {planned - saved} pairs played, {saved} saved"


def _counts(parts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {Column(name, digits=3).cell(value)}" for name, value in parts.items())
