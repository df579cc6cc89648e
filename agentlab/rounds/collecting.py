"""The first node: explore train games, cheaply at random, with the model, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.collect import collect_model, collect_random
from agentlab.rounds.report import RoundReport

if TYPE_CHECKING:
    from agentlab.lab import Lab


def collect(lab: Lab, report: RoundReport) -> str:
    """Play the train games of this round; episodes and reflections stay in the lab."""
    from agentlab.tasks import make_tasks

    config = report.config
    tasks = make_tasks(config.envs, "train", config.train_seeds(report.number))
    ways = config.collect
    if ways == "auto":
        ways = "random" if report.incumbent is None else "both"
    if ways in ("random", "both"):
        won = collect_random(lab, report.id, tasks, trials=config.random_trials, seed=config.seed)
        report.collected["random"] = {"tasks": len(tasks), "won": won}
    if ways in ("model", "both"):
        results = collect_model(
            lab,
            report.id,
            tasks,
            adapter=report.incumbent,
            trials=config.model_trials,
            temperature=config.temperature,
            seed=config.seed,
        )
        won = sum(bool(result.won_within(config.model_trials)) for result in results)
        report.collected["model"] = {"tasks": len(tasks), "won": won}
    return "select"
