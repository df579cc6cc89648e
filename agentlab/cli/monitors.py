"""What was watched of a round's adapter, for a person: the monitors, and what was kept of the other families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlab.cli import output

if TYPE_CHECKING:
    from agentlab.rounds import RoundReport
    from trainers.gate import Estimate, Paired


def show(report: RoundReport) -> None:
    """Print the monitors of a round, and what its adapter lost or kept; nothing where nothing was measured."""
    from agentlab.views.monitors import GOOD, basis

    if report.monitors:
        output.say(basis(report), "dim")
        found = monitored(report.monitors)
        output.facts(
            [*found, ("good and bad", "; ".join(GOOD[name] for name, value in found if value and name in GOOD))]
        )
    if report.forgetting:
        _print_retention(report)


def monitored(monitors: dict[str, Any]) -> list[tuple[str, str]]:
    """The monitors of a round, by name; what was not measured is left out."""
    from trainers.gate import Monitors

    found = Monitors.model_validate(monitors)

    def rate(estimate: Estimate | None) -> str:
        if estimate is None:
            return ""
        return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] of {estimate.n} games"

    entropy = drift = successes = ""
    if found.pass_at_1 is not None:
        successes = f"{found.successes}, {found.distinct} of them distinct"
    if found.entropy is not None and found.evenness is not None:
        entropy = f"{found.entropy.value:.2f} nats, {found.evenness.value:.0%} of the highest, {found.entropy.n} steps"
    if found.drift is not None:
        spread = f" [{found.drift.low:+.3f}, {found.drift.high:+.3f}]" if found.drift.low is not None else ""
        drift = f"{found.drift.value:+.3f}{spread} nats a token, {found.drift.n} examples"
    return [
        ("Pass@1", rate(found.pass_at_1)),
        (f"Pass@{found.k}", rate(found.pass_at_k)),
        (f"Pass@{found.k}-{found.s}", rate(found.pass_at_k_s)),
        ("successes", successes),
        ("action entropy", entropy),
        ("drift", drift),
    ]


def _print_retention(report: RoundReport) -> None:
    from agentlab.rounds.retention import Retention

    kept = Retention.model_validate(report.forgetting)
    if kept.losses:
        output.say(f"{kept.adapter} against the best before it, on dev games:", "dim")
        output.facts(
            (loss.env, f"{change(loss.paired, loss.p)}, {loss.best}{', FORGOTTEN' if loss.forgotten else ''}")
            for loss in kept.losses
        )
    for env, why in kept.unplayable.items():
        output.say(f"Not known whether it forgot {env}: {why}", "yellow")
    if kept.lost:
        refused = report.config.gate.refuse_regressions
        end = "so it is refused." if refused else "and serves all the same (`gate.refuse_regressions` is off)."
        output.say(f"It LOST what {kept.against} can on {kept.points}, {end}", "red")


def change(pairs: Paired, corrected: float | None = None) -> str:
    """A paired difference with its interval, in words; with its own p-value, or with one `corrected` for others."""
    from trainers.gate import p_text

    low, high = pairs.interval
    test = f"p (McNemar) {p_text(pairs.p, '= ')}" if corrected is None else f"p (Holm) {p_text(corrected, '= ')}"
    return f"{pairs.difference:+.2f} [{low:+.2f}, {high:+.2f}] on {pairs.n} pairs, {test}"
