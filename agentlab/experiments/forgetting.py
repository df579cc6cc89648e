"""Forgetting: the held-out rate of every adapter on every family, over the rounds, and what was lost on the way.

All comes from plays that are stored: the gates of rounds and the evaluations. The first trial counts, without memory,
of those in which the model played as it does now: by ranking, or by writing with as much of a thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from agentlab.agent.playing import playing_of
from agentlab.agent.rollout import TaskResult, Trial
from agentlab.agent.tasks import make_tasks
from agentlab.experiments.evaluation import Outcomes, Table, evaluate, known, row
from agentlab.experiments.run import run
from agentlab.workspace.lineage import families
from memory.records import content_id
from memory.store import EpisodeFilter
from trainers.gate import Paired, holm, paired

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split

BASE = "base"
RUN = "forgetting"
"""How the runs under which `measure` plays begin; it only plays what it has not played before."""

Played = dict[str, dict[str, TaskResult]]
"""Plays by adapter and task id."""


class Loss(BaseModel):
    """A family on which an adapter stands against the best of those before it: a_best − a_now (Chaudhry et al. 2018).

    `paired.only_a` counts the games that only the present one won, on the games that both played. `p` is corrected for
    all families together (Holm 1979), `forgotten` says that it is below alpha and the difference to the worse. The best
    of several adapters looks a little better than it is.
    """

    env: str
    best: str
    paired: Paired
    p: float
    forgotten: bool


class Forgetting(BaseModel):
    """What adapters still can.

    Attributes:
        table: a row an adapter in the order of their making, the base first; a cell a family, and one for all.
        rounds: the round that each came from, or how it was merged, by its id.
        adapter: the one that `losses` is about: the one asked for or that serves, or the last measured.
        losses: each family that it and one before it have played, the worst first.
    """

    table: Table
    rounds: dict[str, str] = {}
    adapter: str
    losses: list[Loss] = []


def forgetting(
    workspace: Workspace, *, split: Split = "dev", alpha: float = 0.05, adapter: str | None = None
) -> Forgetting:
    """Read the held-out rates off what the lab has played; nothing is played.

    A game that an adapter played in several runs counts once, as it was played last. The losses are those of `adapter`,
    by default of what serves.
    """
    origin = {BASE: ""} | {
        record.id: record.lineage.round or (record.lineage.merge.method if record.lineage.merge else "")
        for record in workspace.adapters.list()
    }
    plays = played(workspace, split)
    order = [adapter for adapter in origin if adapter in plays]
    rows = [row(adapter, [plays[adapter][task] for task in sorted(plays[adapter])]) for adapter in order]
    envs = sorted({result.task.env for adapter in order for result in plays[adapter].values()})
    table = Table(envs=envs, rows=rows, about={"split": split, "model": workspace.config.model})
    asked = adapter or workspace.serving() or BASE
    now = asked if asked in order or not order else order[-1]
    outcomes = {found.arm: found.outcomes for found in rows}
    return Forgetting(
        table=table,
        rounds={adapter: origin[adapter] for adapter in order if origin[adapter]},
        adapter=now,
        losses=_losses(now, order[: order.index(now)] if now in order else [], outcomes, envs, alpha),
    )


def measure(
    workspace: Workspace,
    envs: Sequence[str] = (),
    *,
    split: Split = "dev",
    seeds: Sequence[int] = range(20),
    adapters: Sequence[str] | None = None,
) -> Forgetting:
    """Play held-out games of all families that anything was trained on, and `envs`, and read the rates.

    `adapters` are by default the base and all that have served, the present one included. Killed or called again, it
    plays only what is missing, so that calling it after every round costs that round's adapter and new families only.
    """
    records = workspace.adapters.list()
    names = sorted({*families(workspace, *(record.id for record in records)), *envs})
    if adapters is None:
        served = {change.serving for change in workspace.adapters.history()}
        adapters = [BASE, *(record.id for record in records if record.id in served)]
    evaluate(workspace, names, split=split, seeds=seeds, arms=list(adapters), name=run_of(workspace))
    return forgetting(workspace, split=split)


def play(
    workspace: Workspace, adapter: str, env: str, plays: Played, *, split: Split, seeds: Sequence[int]
) -> Outcomes:
    """How an adapter, or `base`, ends on held-out games of a family. Only those are played that are not in `plays`:
    at the gate of a round, or in an evaluation, they were. What errors is played once more."""
    tasks, found = make_tasks(env, split, seeds), dict(plays.get(adapter, {}))
    missing = [task.seed for task in tasks if task.id not in found]
    if missing:
        results = run(
            workspace,
            env,
            split=split,
            seeds=missing,
            trials=1,
            arm=adapter,
            name=run_of(workspace),
            again=True,
            hold_out_tools=False,
        )
        found |= {result.task.id: result for result in results}
    return {task.id: found[task.id].won_within(1) for task in tasks}


def run_of(workspace: Workspace) -> str:
    """The run under which `measure` plays, one for each way in which the lab's model can play."""
    playing = playing_of(workspace)
    return content_id(RUN, playing) if playing else RUN


def played(workspace: Workspace, split: Split) -> Played:
    """The last finished play of each task by each adapter, or by `base`, at gates and in evaluations."""
    from environments import Task

    playing, database = playing_of(workspace), workspace.database
    of_rounds, tables = database.rounds.all(), database.evaluations.all()
    runs = [f"{id}-gate" for id, report in of_rounds.items() if report.get("playing", {}) == playing]
    for name, table in tables.items():
        about = table.get("about", {})
        runs += [name, *about.get("runs", {}).values()] if about.get("playing", {}) == playing else []
    runs.append(run_of(workspace))
    rows = [row for run in dict.fromkeys(runs) for row in database.episodes.find(EpisodeFilter(run=run, split=split))]
    found: Played = {}
    for one in sorted(rows, key=lambda row: row.started_at):
        # Of later trials and of other arms (chance, memory, agents that play by turns) nothing can be said about the
        # weights alone.
        alone = one.arm in (BASE, "adapter", *(f"{side}{one.adapter}" for side in ("", "candidate ", "incumbent ")))
        if one.trial or not alone or one.engine == "random" or one.status == "errored":
            continue
        task = Task(env=one.env, split=split, seed=one.seed)
        trial = Trial(one.id, one.status, one.score, one.steps)
        found.setdefault(one.adapter or BASE, {})[task.id] = TaskResult(task, one.arm, (trial,))
    return found


def _losses(
    now: str, before: Sequence[str], outcomes: dict[str, Outcomes], envs: Sequence[str], alpha: float
) -> list[Loss]:
    found: list[tuple[str, str, Paired]] = []
    for env in envs:
        ours = known(outcomes.get(now, {}), env)
        compared = [(paired(ours, known(outcomes[adapter], env)), adapter) for adapter in before]
        # Where several differ by as much, the one with more games in common says more.
        best = min(
            (pair for pair in compared if pair[0].n), key=lambda pair: (pair[0].difference, -pair[0].n), default=None
        )
        if best is not None:
            found.append((env, best[1], best[0]))
    corrected = holm([part.p for _, _, part in found])
    losses = [
        Loss(env=env, best=best, paired=part, p=p, forgotten=part.lost(alpha, p))
        for (env, best, part), p in zip(found, corrected, strict=True)
    ]
    return sorted(losses, key=lambda loss: loss.paired.difference)
