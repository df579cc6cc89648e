"""Keeping: whether what is about to serve lost what adapters of the lab have learned, on games outside the gate.

A round that trains on one game can pass its gate there with weights that no longer win another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from agentlab.agent.tasks import looked_at
from agentlab.experiments.evaluation import Outcomes, known
from agentlab.experiments.forgetting import BASE, Loss, forgetting, play, played
from agentlab.rounds.ladder import learned_from
from agentlab.rounds.report import RoundReport
from agentlab.workspace.lineage import families
from trainers.gate import Paired, paired

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from trainers.gate import GateResult


class Retention(BaseModel):
    """What an adapter still can.

    Attributes:
        adapter: what serves after the round if nothing was lost: the candidate if the gate let it through, else the
            incumbent.
        against: the incumbent, or `base`.
        outside: the candidate against the incumbent on each family outside the gate; `only_a` was won by the candidate.
        lost: those of them where it is worse at the alpha of the gate.
        losses: the adapter against the best before it, on every family that is stored.
        unplayable: families outside the gate of which it is not known whether they were lost, and why: they, or too
            many of their games, cannot be played here.
    """

    adapter: str
    against: str
    outside: dict[str, Paired] = {}
    lost: list[str] = []
    losses: list[Loss] = []
    unplayable: dict[str, str] = {}

    @property
    def points(self) -> str:
        """What was lost, in percentage points."""
        return ", ".join(f"{env} ({100 * self.outside[env].difference:+.0f} points)" for env in self.lost)


def check_retention(workspace: Workspace, report: RoundReport) -> str:
    """Play what is missing of the families outside the gate, and refuse what lost one where the gate is to refuse
    that. A candidate that the gate rejected is not looked at; what serves on is."""
    from trainers.gate import GateResult

    result = GateResult.model_validate(report.gate)
    adapter = report.adapter if result.promote else report.incumbent
    # A report that has it was written together with the decision, before a kill.
    if adapter is not None and report.config.forgetting.seeds and not report.forgetting:
        kept = _checked(workspace, report, adapter)
        report.forgetting = kept.model_dump(mode="json")
        if kept.lost:
            result = _judged(result, kept)
            report.gate = result.model_dump(mode="json")
            workspace.progress.say(
                f"{report.adapter} LOST what {kept.against} can on {kept.points}"
                f"{'; it serves all the same.' if result.promote else ', so it is refused.'}"
            )
    return "promote" if result.promote else "reject"


def _checked(workspace: Workspace, report: RoundReport, adapter: str) -> Retention:
    alpha = report.config.gate.alpha
    kept = Retention(adapter=adapter, against=report.incumbent or BASE)
    plays = played(workspace, "dev")
    for env, seeds in _outside(workspace, report, kept.unplayable).items():
        theirs = play(workspace, kept.against, env, plays, split="dev", seeds=seeds)
        if adapter != kept.against:
            ours = play(workspace, adapter, env, plays, split="dev", seeds=seeds)
            kept.outside[env] = found = paired(known(ours), known(theirs))
            if found.lost(alpha):
                kept.lost.append(env)
            elif _could_be_lost(ours, theirs, alpha):
                kept.unplayable[env] = (
                    f"{len(ours) - found.n} of {len(ours)} games errored, and could have shown a loss."
                )
    for env, why in kept.unplayable.items():
        workspace.progress.say(f"Whether {adapter} forgot {env} is not known: {why}")
    seen = forgetting(workspace, alpha=alpha, adapter=adapter)
    return kept.model_copy(update={"losses": seen.losses if seen.adapter == adapter else []})


def _could_be_lost(ours: Outcomes, theirs: Outcomes, alpha: float) -> bool:
    """Whether there would be a loss if all that errored had spoken for one."""
    worst = {task: bool(won) for task, won in ours.items()}
    best = {task: won is not False for task, won in theirs.items()}
    return paired(worst, best).lost(alpha)


def _outside(workspace: Workspace, report: RoundReport, unplayable: dict[str, str]) -> dict[str, list[int]]:
    """The families of all adapters of the lab that the gate did not play, with the dev games to play of each; one that
    can no longer be made goes to `unplayable`, since it must not stand in the way of every round."""
    from environments.errors import EnvironmentsError

    found: dict[str, list[int]] = {}
    adapters = [record.id for record in workspace.adapters.list()]
    others = families(workspace, *(id for id in adapters if id != report.adapter))
    # Easier variants that only this round has learned were never played by anybody else.
    known = {*report.config.envs, *(name for name in learned_from(report.config) if name not in others)}
    for name in families(workspace, *adapters):
        if name in known:
            continue
        try:
            with looked_at(name) as env:
                seeds = list(env.fold("dev"))[: report.config.forgetting.seeds]
        except EnvironmentsError as error:
            unplayable[name] = str(error)
            continue
        if seeds:
            found[name] = seeds
    return found


def _judged(result: GateResult, kept: Retention) -> GateResult:
    """The decision of the gate with what was lost outside taken into account."""
    refuse = result.config.refuse_regressions
    return result.model_copy(
        update={
            "promote": not refuse,
            "reason": f"{result.reason}; but worse than {kept.against} outside the gate on {kept.points}",
            "regressions": sorted({*result.regressions, *kept.lost}),
        }
    )
