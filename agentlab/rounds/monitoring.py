"""Monitoring: what the new adapter can do within reach, how varied it plays, and how far it drifted from the base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlab.rounds.report import RoundReport
from agentlab.rounds.sampling import sample

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from trainers.monitors import Scored


def monitor(lab: Lab, report: RoundReport) -> str:
    """Sample dev games with the candidate; nothing is learned from them, and the gate does not look at them."""
    from agentlab.tasks import make_tasks
    from trainers.monitors import MonitorConfig, observe

    config, settings = report.config, report.config.monitor
    episodes = sample(
        lab,
        f"{report.id}-monitor",
        make_tasks(config.envs, "dev", range(settings.tasks)),
        adapter=report.adapter,
        temperature=settings.temperature,
        trials=settings.k,
        seed=config.seed,
    )
    found = observe(episodes, MonitorConfig(k=settings.k, s=settings.s), scored=scored(lab, report))
    report.monitors = found.model_dump(mode="json")
    return "gate"


def scored(lab: Lab, report: RoundReport) -> list[Scored]:
    """Some of what was taught, as adapter and base score it; nothing where the engine cannot score a text."""
    from trainers import job
    from trainers.monitors import Scored
    from trainers.selectors.base import draw

    engine: Any = lab.engine(report.adapter)
    if not hasattr(engine, "logprob"):
        return []
    records = job.load(lab.folder / "jobs" / report.id).examples
    taught = [example for record in records if (example := record.taught) is not None and example.spans]
    taught.sort(key=lambda example: draw(report.config.seed, example.episode, "drift|"))
    taught = taught[: report.config.monitor.examples]
    by_adapter = [float(engine.logprob(example.token_ids, example.spans)) for example in taught]
    engine = lab.engine()
    return [
        Scored(policy, float(engine.logprob(example.token_ids, example.spans)), sum(b - a for a, b in example.spans))
        for example, policy in zip(taught, by_adapter, strict=True)
    ]
