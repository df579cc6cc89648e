"""How the held-out games of a round begin: what begins alike is not learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab import failures
from agentlab.errors import AgentLabError
from agentlab.rounds.ladder import learned_from
from agentlab.rounds.report import RoundReport
from agentlab.workspace import starts

if TYPE_CHECKING:
    from agentlab.trajectories.environment_pool import EnvironmentPool
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split


def held_out(workspace: Workspace, report: RoundReport) -> list[tuple[str, str]]:
    """How the dev and test games begin: what begins alike in training would be known by heart."""
    from agentlab.trajectories.environment_pool import EnvironmentPool

    config, stage = report.config, "looking at held-out starts"
    envs = list(dict.fromkeys([*learned_from(config), *config.kl.envs]))
    workspace.progress.start(stage, len(envs))
    # Later rounds look at the next dev games at their gates, and at the first ones for what they forgot.
    dev = max(report.dev_from + config.dev_seeds, config.forgetting.seeds, config.held_out_seeds)
    folds: list[tuple[Split, int]] = [("dev", dev), ("test", config.held_out_seeds)]
    found, pool = list[tuple[str, str]](), EnvironmentPool()
    try:
        for env_id in envs:
            for split, count in folds:
                found += _starts(workspace, pool, env_id, split, count)
            workspace.progress.advance(stage)
    finally:
        pool.close()
    workspace.progress.finish(stage)
    return found


def _starts(
    workspace: Workspace, pool: EnvironmentPool, env_id: str, split: Split, count: int
) -> list[tuple[str, str]]:
    """How the first games of a fold begin. A game begins as it began, so each is looked at once in the life of a lab.

    Only the first is begun again, to see whether the games are still the same; if not, all are looked at anew.
    """
    from environments import EnvironmentDied, Task

    scope = starts.scope(env_id, split)
    kept = workspace.database.journal.items(scope)
    known = {int(seed): (start["goal"], start["observation"]) for seed, start in kept.items()}
    with pool.lent(env_id) as env:
        seeds = list(env.fold(split))[:count]
    fresh, changed, failed = dict[int, tuple[str, str]](), False, ""
    for seed in seeds:
        if seed in known and seed != seeds[0]:
            continue
        try:
            with pool.lent(env_id) as env, failures.environment(env_id):
                observation, info = env.start(Task(env=env_id, split=split, seed=seed))
        except EnvironmentDied as error:
            failed = str(error)  # a game that cannot begin cannot be known by heart either
            continue
        fresh[seed] = str(info["goal"]), observation
        if known.get(seed, fresh[seed]) != fresh[seed]:
            known, changed = {}, True
    if failed and not known | fresh:
        raise AgentLabError(
            f"No {split} game of {env_id} can begin, so it cannot be told what must not be trained on. {failed}"
        )
    with workspace.database.transaction():
        if changed:
            workspace.database.journal.clear(scope)
        for seed, (goal, observation) in fresh.items():
            workspace.database.journal.put(scope, str(seed), {"goal": goal, "observation": observation})
    known |= fresh
    return [known[seed] for seed in seeds if seed in known]
