"""Merging skills: adapters of a lab made into one, and the gate that this one must pass to serve."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agentlab import failures
from agentlab.agent.tasks import looked_at, make_tasks
from agentlab.errors import AgentLabError, BadConfig, Undecided
from agentlab.experiments.evaluation import Outcomes, Table, evaluate, known
from agentlab.rounds.challenges import MERGES, Challenge, fresh_seeds, merges, next_challenge
from agentlab.rounds.checking import too_few
from agentlab.workspace.lineage import families
from memory.store import EpisodeFilter
from trainers.adapters import Merge, MergeConfig
from trainers.gate import GateConfig, GateResult, Paired, decide, paired, swayed

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace
    from trainers.adapters import AdapterRecord

SEEDS = 20
"""How many dev games of each environment a merge is gated on by default."""


def merge(workspace: Workspace, adapters: Sequence[str], config: MergeConfig | None = None) -> AdapterRecord:
    """Merge adapters of the lab into a new candidate: see `trainers.adapters.merge`. `gate_merge` lets it serve."""
    from trainers.adapters import merge as merge_adapters

    workspace.must_write()
    return merge_adapters(workspace.adapters, adapters, workspace.model_folder, config)


class ParentComparison(BaseModel):
    """A merged adapter against one of its parents, on a family of that parent; `only_a` was won by the merged one."""

    parent: str
    env: str
    paired: Paired
    lost: bool


class MergeGate(BaseModel):
    """What the gate of a merge found.

    Attributes:
        adapter: the merged one.
        incumbent: what served, or `base`.
        gate: the decision between the two over all families of the parents.
        kept: every parent on every family of its own; a credible loss there refuses the merge too.
        table: the held-out plays that it rests on.
        promoted: whether the merged adapter serves now.
    """

    adapter: str
    incumbent: str
    gate: GateResult
    kept: list[ParentComparison]
    table: Table
    promoted: bool


def gate_merge(
    workspace: Workspace,
    merged: str,
    envs: Sequence[str] = (),
    *,
    seeds: Sequence[int] | None = None,
    config: GateConfig | None = None,
) -> MergeGate:
    """Play held-out games of all families of the parents, decide, and promote or reject the merged adapter.

    It must beat what serves, without a credible loss on any family, and without a credible loss against a parent on a
    family of that parent. `envs` are played beside the parents' families. `seeds` are dev games that no earlier gate
    has seen, by default the next 20 of each. Killed, the same call goes on where it stopped; called again after the
    merge was promoted, it tells the same again. On other games it is a new challenge of what serves.

    Raises BadConfig if the adapter is no merge, the gate could never pass with so few games, there are fewer dev games,
    or an earlier gate has seen one of them,
    Undecided where games errored, also when they were played again, and could turn the decision, AgentLabError if it
    serves already without this gate, or if something else was promoted meanwhile.
    """
    config = config or GateConfig()
    record = workspace.adapters.get(merged)
    merge = _merge_of(record)
    served = workspace.serving()
    passed = served == record.id
    earlier = [challenge for adapter, challenge in merges(workspace) if adapter == record.id]
    if passed:
        if record.gate is None or record.forced or not earlier:
            raise AgentLabError(f"{record.id} serves already; there is nothing that it could be compared with.")
        served = workspace.adapters.history()[-1].before
    incumbent = served or "base"
    homes = {parent: families(workspace, parent) for parent in merge.weights}
    unknown = [parent for parent, home in homes.items() if not home]
    if unknown and not envs:
        raise BadConfig(
            f"The lab has no episode that {', '.join(unknown)} was trained on, so its families are not known; name "
            "environments to gate the merge on."
        )
    asked = make_tasks([*sorted({env for home in homes.values() for env in home}), *envs], "dev", seeds or [0])
    names = list(dict.fromkeys(task.env for task in asked))
    challenge = next((one for one in earlier if _same(one, served, names, seeds)), None)
    if challenge is None:
        challenge = _challenge(workspace, record.id, names, seeds, len(earlier))
    many = len(challenge.seeds)
    remedy = "name {0} games of each or more (--seeds), or none in particular"
    if not passed and (problem := too_few(config, challenge.number, len(names), many, "games of each", remedy)):
        raise BadConfig(problem)
    make_tasks(names, "dev", challenge.seeds)  # refused before anything is kept
    workspace.database.journal.put(MERGES, f"{record.id}|{challenge.run}", challenge.model_dump())
    arms = list(dict.fromkeys([incumbent, record.id, *homes]))
    table = evaluate(workspace, names, split="dev", seeds=challenge.seeds, arms=arms, name=challenge.run, again=True)

    def judge(ours: Any, others: Any) -> tuple[GateResult, list[ParentComparison]]:
        of = {arm: {task: won for (who, task), won in others.items() if who == arm} for arm in arms}
        kept = [
            _compare_with_parent(parent, env, ours, of[parent], config)
            for parent, home in homes.items()
            for env in home
        ]
        return _judged(decide(ours, of[incumbent], config, challenge=challenge.number), kept, config), kept

    ours: Any = table.row(record.id).outcomes
    others: Any = {(row.arm, task): won for row in table.rows for task, won in row.outcomes.items()}
    result, kept = judge(ours, others)
    if passed:
        pass  # it was promoted before; what it was compared with then was found again
    elif swayed(result.promote, ours, others, lambda ours, others: judge(ours, others)[0].promote):
        failed = workspace.database.episodes.find(EpisodeFilter(run=challenge.run, status="errored"), limit=1)
        why = workspace.database.episodes.load([row.id for row in failed])[0].error
        raise Undecided(
            f"The gate of {record.id} cannot decide: what errored at it, also when it was played again, could turn the "
            f"decision ({_errored(table)} of {len(others)} games). {why} The same command plays it once more."
        )
    elif workspace.serving() != served:
        raise AgentLabError(
            f"{workspace.serving() or 'The base'} was promoted meanwhile, and {record.id} was compared with "
            f"{incumbent}; gate it again."
        )
    elif result.promote:
        workspace.adapters.promote(record.id, result)
    else:
        workspace.adapters.reject(record.id, result)
    return MergeGate(
        adapter=record.id, incumbent=incumbent, gate=result, kept=kept, table=table, promoted=result.promote
    )


def _errored(table: Table) -> int:
    return sum(won is None for row in table.rows for won in row.outcomes.values())


def _same(challenge: Challenge, served: str | None, envs: Sequence[str], seeds: Sequence[int] | None) -> bool:
    """Whether a gate that has begun is the one that is asked for."""
    asked = (served, list(envs), challenge.seeds if seeds is None else list(seeds))
    return (challenge.incumbent, challenge.envs, challenge.seeds) == asked


def _challenge(
    workspace: Workspace, adapter: str, envs: list[str], seeds: Sequence[int] | None, before: int
) -> Challenge:
    """A new challenge of what serves, on games that no gate has seen, and none that the parents were trained on."""
    free = fresh_seeds(workspace, envs, SEEDS if seeds is None else 1)
    if seeds is None:
        free = _untrained(workspace, adapter, envs, free[0])
    seen = [seed for seed in seeds or [] if seed < free[0]]
    if seen:
        raise BadConfig(
            f"Dev game {seen[0]} has been seen at an earlier gate, and would judge what it has helped to choose; ask "
            f"for games from {free[0]} on, or for none in particular."
        )
    return Challenge(
        incumbent=workspace.serving(), number=next_challenge(workspace), envs=envs,
        seeds=free if seeds is None else list(seeds), run=f"gate-{adapter}" + (f"-{before + 1}" if before else ""),
    )  # fmt: skip


def _untrained(workspace: Workspace, adapter: str, envs: Sequence[str], first: int) -> list[int]:
    """The next dev games from `first` on of which none begins like a game that the adapter was trained on: a round
    leaves out what begins like its own gate's games, and cannot know those of the gates to come."""
    from environments import Task
    from trainers.data import start_of, starts_of

    episodes = workspace.adapters.get(adapter).lineage.episodes
    trained = {start_of(episode) for episode in workspace.database.episodes.load(episodes)}
    found: list[int] = []
    with ExitStack() as stack:
        made = {name: stack.enter_context(looked_at(name)) for name in envs}
        for seed in range(first, min(len(env.fold("dev")) for env in made.values())):
            begun = []
            for name, env in made.items():
                with failures.environment(name):
                    begun.append(env.start(Task(env=name, split="dev", seed=seed)))
            if trained.isdisjoint(starts_of((str(info["goal"]), seen) for seen, info in begun)):
                found.append(seed)
            if len(found) == SEEDS:
                return found
    raise BadConfig(
        f"{', '.join(envs)} have no {SEEDS} dev games left that no gate has seen and that begin like nothing {adapter} "
        "was trained on; name some with --seeds, which then judge less strictly, or learn environments with more."
    )


def _merge_of(record: AdapterRecord) -> Merge:
    if record.lineage.merge is None:
        raise BadConfig(f"{record.id} was trained, not merged; its gate is that of its round (`agentlab rounds`).")
    return record.lineage.merge


def _compare_with_parent(
    parent: str, env: str, ours: Outcomes, theirs: Outcomes, config: GateConfig
) -> ParentComparison:
    found = paired(known(ours, env), known(theirs, env))
    return ParentComparison(parent=parent, env=env, paired=found, lost=found.lost(config.alpha))


def _judged(result: GateResult, kept: Sequence[ParentComparison], config: GateConfig) -> GateResult:
    """The decision with the losses against parents taken into account."""
    lost = [one for one in kept if one.lost]
    if not (result.promote and lost and config.refuse_regressions):
        return result
    where = ", ".join(f"{one.env} ({100 * one.paired.difference:+.0f} points to {one.parent})" for one in lost)
    return result.model_copy(
        update={
            "promote": False,
            "reason": f"{result.reason}; but a skill was lost in the merge: {where}",
            "regressions": sorted({*result.regressions, *(one.env for one in lost)}),
        }
    )
