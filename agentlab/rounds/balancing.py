"""Balancing: pick the temperature to explore at and the score to train from, as B-STaR does in every round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab.agent.tasks import make_tasks
from agentlab.rounds.report import RoundReport
from agentlab.rounds.sampling import sample

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


def balance(workspace: Workspace, report: RoundReport) -> str:
    """Play a subset of the round's tasks at each temperature, and keep the pick with the best balance score."""
    from trainers.gate import subset

    config, settings = report.config, report.config.balance
    assert settings is not None, "only a round that balances comes here"
    tasks = {task.id: task for task in make_tasks(config.envs, "train", config.train_seeds(report.number))}
    chosen = [tasks[id] for id in subset(tasks, settings.tasks, config.seed)]
    played = {
        temperature: sample(
            workspace,
            f"{report.id}-balance",
            chosen,
            adapter=report.incumbent,
            temperature=temperature,
            trials=settings.trials,
            seed=config.seed,
        )
        for temperature in settings.temperatures
    }
    pick = settings.balancer.pick(report.number, played).picks[report.number]
    report.balance = pick.model_dump()
    return "collect"
