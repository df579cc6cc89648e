"""The gate of a round: candidate and incumbent play the same held-out games, and the pairs decide who serves.

The games are those that no earlier gate has seen (see `agentlab.rounds.challenges`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agentlab.agent.arms import BASE, Arm
from agentlab.agent.playing import actor_of
from agentlab.agent.rollout import rollout_of
from agentlab.agent.tasks import make_tasks
from agentlab.errors import Undecided
from agentlab.rounds.monitoring import at_gate
from agentlab.rounds.report import RoundReport

if TYPE_CHECKING:
    from agentlab.trajectories.environment_pool import EnvironmentPool
    from agentlab.workspace.workspace import Workspace
    from environments import Task
    from trainers.gate import GateResult, Results

    Look = Callable[[Results, Results], GateResult | None]

Outcomes = dict[Any, bool | None]


def gate(workspace: Workspace, report: RoundReport) -> str:
    """Play in blocks, the same games of every environment with either side, until the gate has decided.

    What errors is played again. Raises Undecided where it errors again and could turn the decision.
    """
    from agentlab.trajectories.environment_pool import EnvironmentPool
    from trainers.gate import swayed

    config, settings = report.config, report.config.gate
    planned = len(config.envs) * config.gate_seeds
    incumbent, candidate = arms = _arms(workspace, report)
    outcomes: dict[str, Outcomes] = {arm.name: {} for arm in arms}
    ours, theirs = outcomes[candidate.name], outcomes[incumbent.name]
    errors: list[str] = []
    looks: list[list[str]] = []
    look = _looking(report, planned)
    result: GateResult | None = None
    in_doubt = False

    def judge(ours: Results, theirs: Results) -> bool | None:
        found = _first(_looking(report, planned), looks, ours, theirs)
        return None if found is None else found.promote

    pool = EnvironmentPool()
    try:
        for arm in arms:
            workspace.progress.start(_stage(arm), planned)
        for seeds in blocks(config.gate_seeds, settings.looks if settings.sequential else 1):
            tasks = make_tasks(config.envs, "dev", [report.dev_from + seed for seed in seeds])
            for arm in arms:
                errors += _play(workspace, report, arm, tasks, pool, outcomes[arm.name])
            looks.append(list(ours))
            result = look(ours, theirs)
            # Where what errored could turn it, more games may yet make it clear.
            in_doubt = result is not None and swayed(result.promote, ours, theirs, judge)
            if result is not None and not in_doubt:
                break
    finally:
        pool.close()
        for arm in arms:
            workspace.progress.finish(_stage(arm))
    assert result is not None, "a gate decides at the latest when everything is played"
    if in_doubt:
        raise Undecided(
            f"The gate of {report.id} cannot decide: what errored at it, also when it was played again, could turn the "
            f"decision ({len(errors)} of {2 * planned} games). {errors[0]} The same command plays it once more; "
            f"`agentlab rounds abandon {report.id}` gives the round up."
        )
    report.gate = result.model_dump(mode="json")
    if not config.monitor.tasks:
        report.monitors = at_gate(workspace, report, candidate)
    return "retention"


def _looking(report: RoundReport, planned: int) -> Look:
    """A gate of this round at its beginning: it looks at all results so far, and says None if it needs more."""
    from trainers.gate import SequentialGate, decide

    settings = report.config.gate
    if settings.sequential:
        return SequentialGate(planned, settings, challenge=report.challenge).look
    return partial(decide, config=settings, challenge=report.challenge)


def _first(look: Look, games: Sequence[Sequence[str]], ours: Results, theirs: Results) -> GateResult | None:
    """The first decision of a gate that looks at the results of these games, one look after the other."""
    seen = (look({game: ours[game] for game in some}, {game: theirs[game] for game in some}) for some in games)
    return next((result for result in seen if result is not None), None)


def blocks(seeds: int, count: int) -> list[range]:
    """The first `seeds` seeds in at most `count` blocks of one size; only the last may be smaller."""
    size = math.ceil(seeds / count)
    return [range(first, min(first + size, seeds)) for first in range(0, seeds, size)]


def _arms(workspace: Workspace, report: RoundReport) -> tuple[Arm, Arm]:
    """Incumbent and candidate, both without memory."""
    incumbent = BASE if report.incumbent is None else Arm(f"incumbent {report.incumbent}", adapter=report.incumbent)
    candidate = Arm(f"candidate {report.adapter}", adapter=report.adapter)
    actor = actor_of(workspace)
    return incumbent.with_(actor=actor), candidate.with_(actor=actor)


def _stage(arm: Arm) -> str:
    return f"gate: {arm.name}"


def _play(
    workspace: Workspace,
    report: RoundReport,
    arm: Arm,
    tasks: Sequence[Task],
    pool: EnvironmentPool,
    outcomes: Outcomes,
) -> list[str]:
    """Play a block with one side, in the environments of `pool`, and add how it ended to `outcomes`. Returns of what
    games errored."""
    won = sum(map(bool, outcomes.values()))

    def on_result(result: Any) -> None:
        nonlocal won
        won += bool(result.won_within(1))
        workspace.progress.advance(_stage(arm), 1, f"{won} won")

    # A new rollout has the engine turn to this side's adapter.
    rollout = rollout_of(workspace, f"{report.id}-gate", arm)
    rollout.pool = pool
    try:
        results = rollout.play(tasks, arm, again=True, progress=on_result)
    finally:
        rollout.dismiss()
    outcomes.update({result.task.id: result.won_within(1) for result in results})
    return [trial.error for result in results for trial in result.trials if trial.error is not None]


def promote(workspace: Workspace, report: RoundReport) -> str:
    """Let the candidate serve, unless something else was promoted since the round began."""
    from trainers.gate import GateResult

    assert report.adapter is not None
    report.promoted = workspace.serving() in (report.incumbent, report.adapter)
    if report.promoted:
        workspace.adapters.promote(report.adapter, GateResult.model_validate(report.gate))
    else:
        report.note = f"{workspace.serving() or 'The base'} was promoted meanwhile; the gate did not compare with that."
    return "retire"


def reject(workspace: Workspace, report: RoundReport) -> str:
    """Keep the candidate as rejected; what serves goes on serving."""
    from trainers.gate import GateResult

    assert report.adapter is not None
    report.promoted = False
    if report.adapter == workspace.serving():
        report.note = "Training gave the weights that serve already; they keep serving."
    else:
        workspace.adapters.reject(report.adapter, GateResult.model_validate(report.gate))
    return "retire"
