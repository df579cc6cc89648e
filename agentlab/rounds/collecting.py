"""Collecting: explore train games at random, with the model, or by search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentlab.agent.arms import RecallConfig
from agentlab.experiments.collection import OWN_TRIALS, collect_model, collect_random, explored
from agentlab.rounds.calling import writes_calls
from agentlab.rounds.judging import judges
from agentlab.rounds.ladder import climb
from agentlab.rounds.report import RoundReport
from agentlab.search.config import METHODS, Method
from agentlab.trajectories.budget import Cost

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments import Task


def collect(workspace: Workspace, report: RoundReport) -> str:
    """Play the train games of this round; episodes and reflections stay in the lab."""
    config = report.config
    ways = config.ways(report.incumbent)
    if "random" in ways:
        found = climb(
            config,
            report.number,
            lambda tasks: collect_random(workspace, report.id, tasks, trials=config.random_trials, seed=config.seed),
        )
        refining = sum(known.get("refining", 0) for known in explored(workspace, report.id).values())
        report.collected["random"] = {**found, "refining": refining}
    for method in METHODS:
        if method in ways:
            report.collected[method] = _search(workspace, report, method)
    if "model" in ways:
        report.collected["model"] = _model(workspace, report)
    if judges(config):
        return "judge"
    return "revise" if config.revise else "call" if writes_calls(config) else "select"


def _model(workspace: Workspace, report: RoundReport) -> dict[str, int]:
    """Have the model play; how many games were won, and the steps that refining them took."""
    config, refining = report.config, 0

    def explore(tasks: Sequence[Task]) -> int:
        nonlocal refining
        results = collect_model(
            workspace,
            report.id,
            tasks,
            adapter=report.incumbent,
            trials=config.model_trials,
            temperature=report.temperature,
            seed=config.seed,
            recall=_recall(workspace) if config.memory == "all" else OWN_TRIALS,
        )
        refining += sum(trial.refining for result in results for trial in result.trials)
        return sum(bool(result.won_within(config.model_trials)) for result in results)

    return {**climb(config, report.number, explore), "refining": refining}


def _search(workspace: Workspace, report: RoundReport, method: Method) -> dict[str, int]:
    """Search every task; how many were won, and what it cost."""
    from agentlab.search.tasks import search_tasks

    search, guided = report.config.search, report.config.search.guide == "model"
    settings, cost, counts = search.settings, Cost(), Counter[str]()
    if guided and report.balance:
        settings = settings.model_copy(update={"temperature": report.temperature})

    def explore(tasks: Sequence[Task]) -> int:
        nonlocal cost
        results = search_tasks(
            workspace,
            report.id,
            tasks,
            method=method,
            engine=search.guide,
            adapter=report.incumbent if guided else None,
            budget=search.budget,
            seed=report.config.seed,
            config=settings,
        )
        cost = sum((result.cost for result in results), cost)
        counts["episodes"] += sum(result.episodes for result in results)
        counts["refining"] += sum(result.refining for result in results)
        return sum(result.won is not None for result in results)

    found = climb(report.config, report.number, explore)
    return {**found, "episodes": counts["episodes"], **cost.model_dump(), "refining": counts["refining"]}


def _recall(workspace: Workspace) -> RecallConfig:
    """What the base recalls with memory, whoever plays."""
    return RecallConfig(text=workspace.config.recall_text, exemplars=workspace.config.recall_exemplars)
