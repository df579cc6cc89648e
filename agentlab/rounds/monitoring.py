"""Monitoring: what the new adapter can do within reach, how varied it plays, and how far it drifted from the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentlab.agent.tasks import make_tasks
from agentlab.rounds.report import RoundReport
from agentlab.rounds.sampling import sample
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.agent.arms import Arm
    from agentlab.workspace.workspace import Workspace
    from memory.records import Episode
    from trainers.gate import Scored


def monitor(workspace: Workspace, report: RoundReport) -> str:
    """Measure the drift, and sample dev games with the candidate where that is asked for; nothing is learned from them,
    and the gate does not look at them."""
    from agentlab.rounds.questions import ask

    config, settings = report.config, report.config.monitor
    if config.questions is not None:
        ask(workspace, report)
    episodes: list[Episode] = []
    if settings.tasks:
        episodes = sample(
            workspace,
            f"{report.id}-monitor",
            make_tasks(config.envs, "dev", report.dev_seeds[: settings.tasks]),
            adapter=report.adapter,
            temperature=settings.temperature,
            trials=settings.k,
            seed=config.seed,
        )
    report.monitors = _observed(report, episodes, scored(workspace, report))
    return "gate"


def at_gate(workspace: Workspace, report: RoundReport, arm: Arm) -> dict[str, Any]:
    """The monitors of a round that sampled nothing, with success and entropy as `arm`, the candidate, played its gate:
    every game once, without memory, by the best command. That says nothing of what lies within reach of more trials.
    """
    rows = workspace.database.episodes.find(EpisodeFilter(run=f"{report.id}-gate", arm=arm.name))
    found = _observed(report, workspace.database.episodes.load([row.id for row in rows]))
    return {**found, "drift": report.monitors.get("drift")}


def _observed(report: RoundReport, episodes: Sequence[Episode], scored: Sequence[Scored] = ()) -> dict[str, Any]:
    from trainers.gate import MonitorConfig, observe

    settings = report.config.monitor
    return observe(episodes, MonitorConfig(k=settings.k, s=settings.s), scored=scored).model_dump(mode="json")


def scored(workspace: Workspace, report: RoundReport) -> list[Scored]:
    """Some of what was taught, as adapter and base score it; nothing where none is asked for, or the engine cannot
    score a text."""
    from agentlab.engines.base import Likelihood
    from trainers import job
    from trainers.data import draw
    from trainers.gate import Scored

    if not report.config.monitor.examples:
        return []
    model = workspace.model(report.adapter)
    engine = model.engine
    if not isinstance(engine, Likelihood):
        return []
    records = job.load(workspace.folder / "jobs" / report.id).examples
    taught = [example for record in records if (example := record.taught) is not None and example.spans]
    taught.sort(key=lambda example: draw(report.config.seed, example.episode, "drift|"))
    taught = taught[: report.config.monitor.examples]
    by_adapter = [engine.logprob(example.token_ids, example.spans, model.adapter) for example in taught]
    return [
        Scored(policy, engine.logprob(example.token_ids, example.spans), sum(b - a for a, b in example.spans))
        for example, policy in zip(taught, by_adapter, strict=True)
    ]
