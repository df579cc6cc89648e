"""Independent samples of a policy: every task several times at one temperature, with no memory between the trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentlab.agent.arms import Arm
from agentlab.agent.playing import actor_of
from agentlab.agent.policy import Policy
from agentlab.agent.rollout import rollout_of
from memory.records import Episode

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments import Task


def sample(
    workspace: Workspace,
    run: str,
    tasks: Sequence[Task],
    *,
    adapter: str | None,
    temperature: float,
    trials: int,
    seed: int,
) -> list[Episode]:
    """Play every task `trials` times; none ends with the first success. The same call goes on where it stopped."""
    policy = Policy(temperature=temperature, retry_temperature=temperature, growth=0.0, advice=False)
    arm = Arm(f"samples at {temperature:g}", adapter=adapter, policy=policy, actor=actor_of(workspace))
    stage = f"sampling at temperature {temperature:g}"
    rollout = rollout_of(workspace, run, arm, reflectors=(), seed=seed)
    workspace.progress.start(stage, len(tasks))
    try:
        results = rollout.play(
            tasks, arm, trials=trials, until_won=False, progress=lambda result: workspace.progress.advance(stage)
        )
    finally:
        rollout.close()
        workspace.progress.finish(stage)
    return workspace.database.episodes.load([trial.episode for result in results for trial in result.trials])
