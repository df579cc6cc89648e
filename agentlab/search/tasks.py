"""The search of many tasks in a lab, as one of the ways to collect successes, and what their trees then teach.

Every task is one item of work in the journal, written together with its episodes: after a kill, tasks that are done are
not searched again, and a task that was half done is searched again from its seed with the same result. Trees are built
from the stored episodes, so what they teach needs no journal of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from agentlab import tracing
from agentlab.agent.playing import asked_prompting
from agentlab.errors import BadConfig, OutOfBudget
from agentlab.experiments.collection import reflections_on
from agentlab.failures import FAILURES, End, Streak, kind_of, refuse_all_failed
from agentlab.search.config import Method, SearchConfig
from agentlab.search.pairs import ALPHA, BETA
from agentlab.search.revision import Judge, Revision, revisions
from agentlab.search.task import Found, search_task
from agentlab.search.tree import Tree
from agentlab.search.walk import Player
from agentlab.trajectories.budget import Budget, Cost
from agentlab.trajectories.environment_pool import EnvironmentPool
from agentlab.trajectories.refinement import Refiner
from environments import Task, TextEnv
from memory.records import ErrorKind, content_id
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


class Searched(BaseModel):
    """What the search of one task came to: the id of its first success, how many different ones, and the cost.

    `refining` is how many steps in the environment refining that success took, beside `cost`.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    won: str | None = None
    successes: int = 0
    episodes: int = 0
    cost: Cost = Cost()
    refining: int = 0
    error: str | None = None
    error_kind: ErrorKind | None = None

    @property
    def end(self) -> End:
        """Of what it failed; one that won did not fail, whatever ended it."""
        return (None, None) if self.won is not None else (self.error, self.error_kind)


def search_tasks(
    workspace: Workspace,
    run: str,
    tasks: Sequence[Task],
    *,
    method: Method = "mcts",
    engine: Literal["random", "model"] = "random",
    adapter: str | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    config: SearchConfig | None = None,
) -> list[Searched]:
    """Search each task, keep all its episodes, and of the best one the refined form and what both teach.

    `engine` says who guides: the lab's `model`, with `adapter` on if one is named, or chance, which needs none. The
    budget is that of each task; replays that refine a success have one of their own, and their steps are `refining`.
    Results come in the order of `tasks`. Raises BadConfig for tasks outside the train fold, of which nothing may be
    learned, and RunFailed where the engine fails in task after task or all of them fail: the same call then searches
    again what failed.
    """
    config, budget = config or SearchConfig(), budget or Budget()
    _only_train(tasks)
    if adapter is not None and engine == "random":
        raise BadConfig("A search that chance guides takes no adapter; leave the adapter out, or let the model guide.")
    guide = workspace.model(adapter) if engine == "model" else None
    prompting = asked_prompting(workspace) if guide is not None else None
    read = () if prompting is None else (prompting,)
    scope = f"search|{run}|{content_id('search', method, guide and guide.name, adapter, budget, seed, config, *read)}"
    stage, done = f"searching ({method})", workspace.database.journal.items(scope)
    results: list[Searched] = []
    streak = Streak()
    workspace.progress.start(stage, len(tasks))
    pool = EnvironmentPool()
    try:
        for task in tasks:
            known = done.get(task.id)
            if known is None or known["error"] is not None:  # what failed is not done
                told = {"run": run, "task": task.id, "adapter": adapter, "method": method}
                with tracing.span("search", told), workspace.spending.counted() as meter:
                    env = pool.take(task.env)
                    found = search_task(
                        env, task, method=method, model=guide, budget=budget, seed=seed, config=config, run=run,
                        prompting=prompting,
                    )  # fmt: skip
                if found.episodes:  # one of them says what all of them took, for whoever goes on from here
                    found.episodes[0].usage = meter.usage
                _put_back(pool, task, env, found.error)
                results.append(_store(workspace, scope, pool, found))
                if known is None:
                    streak.count(*results[-1].end)
            else:
                results.append(Searched.model_validate(known))
            workspace.progress.advance(stage, 1, f"{sum(result.won is not None for result in results)} won")
    finally:
        pool.close()
        workspace.progress.finish(stage)
    refuse_all_failed(result.end for result in results)
    return results


def _put_back(pool: EnvironmentPool, task: Task, env: TextEnv, error: str | None) -> None:
    """Back into the pool, unless something failed there."""
    if error is None:
        pool.give(task.env, env)
    else:
        pool.throw_away(env)


def _store(workspace: Workspace, scope: str, pool: EnvironmentPool, found: Found) -> Searched:
    best, successes = found.best, found.successes
    if found.error is not None:
        workspace.progress.say(f"{found.task.id}: the search ended early. {found.error}")
    refiner = Refiner(pool.lent)
    shown = refiner(best) if best is not None else None
    result = Searched(
        task=found.task.id,
        won=best.id if best is not None and best.won else None,
        successes=len(successes),
        episodes=len(found.episodes),
        cost=found.cost,
        refining=refiner.cost.steps,
        error=found.error,
        error_kind=found.error_kind,
    )
    with workspace.database.transaction():
        for episode in found.episodes:
            workspace.database.episodes.put(episode)
        if best is not None and shown is not None:
            if shown is not best:
                workspace.database.episodes.put(shown)
            workspace.memory.remember(reflections_on(best, shown, found.book))
        workspace.database.journal.put(scope, found.task.id, result.model_dump(mode="json"))
    return result


def tree_of(workspace: Workspace, run: str | None, task: Task) -> Tree:
    """The tree of what the episodes of a run (None: of all) tried at a task, whoever played them: `pairs` and `values`
    read it.

    Refined episodes are in it too: they were played, by replay. Raises ReplayMismatch if two of them contradict each
    other.
    """
    _only_train([task])
    rows = workspace.database.episodes.find(EpisodeFilter(run=run, task=task.id))
    episodes = workspace.database.episodes.load([row.id for row in rows])
    return Tree.of(episodes)


def revise_tasks(
    workspace: Workspace,
    run: str | None,
    tasks: Sequence[Task],
    *,
    judge: Judge = "tree",
    adapter: str | None = None,
    alpha: float = ALPHA,
    beta: float = BETA,
    budget: Budget | None = None,
    failed: dict[str, str] | None = None,
    streak: Streak | None = None,
) -> list[Revision]:
    """The revisions that the episodes of a run (None: of all) give (Agent-R), each executed again.

    With the judge `actor` the lab's model, with `adapter` on if one is named, finds the first bad steps. The budget is
    that of each task. Nothing is stored, and the same call gives the same. Where the environment or the engine fails,
    there are no further revisions of that task: `failed` gets the reason, by its id, and `streak` counts it. Raises
    BadConfig for tasks outside the train fold, and RunFailed where the streak ends the run.
    """
    _only_train(tasks)
    model = workspace.model(adapter) if judge == "actor" else None
    found: list[Revision] = []
    pool = EnvironmentPool()
    try:
        for task in tasks:
            workspace.spending.check()
            env, why, kind = pool.take(task.env), None, None
            player = Player(
                env,
                task,
                model,
                budget=budget or Budget(),
                run=run or "",
                arm="revision",
                prompting=asked_prompting(workspace),
            )
            try:
                player.tree = tree_of(workspace, run, task)
                with workspace.spending.counted():
                    for revision in revisions(player, judge=judge, alpha=alpha, beta=beta):
                        found.append(revision)
            except OutOfBudget:
                pass
            except FAILURES as error:
                why, kind = str(error), kind_of(error)
                workspace.progress.say(f"{task.id}: no further revisions. {why}")
                if failed is not None:
                    failed[task.id] = why
            _put_back(pool, task, env, why)
            if streak is not None:
                streak.count(why, kind)
    finally:
        pool.close()
    return found


def _only_train(tasks: Sequence[Task]) -> None:
    held_out = next((task for task in tasks if task.split != "train"), None)
    if held_out is not None:
        raise BadConfig(
            f"{held_out.id} is not of the train fold, so nothing may be learned from it; search train games."
        )
