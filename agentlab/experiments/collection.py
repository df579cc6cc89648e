"""Collecting successes: cheap exploration by a random policy, and the model's own play, both with memory.

Every task is one item of work in the journal; after a kill, tasks that are done are not played again, and a task that
was half done is played again from its seed with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentlab.agent.actors import Actor
from agentlab.agent.arms import Arm, RecallConfig
from agentlab.agent.playing import actor_of
from agentlab.agent.policy import Policy
from agentlab.agent.random_exploration import RandomExploration, random_exploration
from agentlab.agent.rollout import TaskResult, rollout_of
from agentlab.agent.tasks import make_tasks
from agentlab.errors import BadConfig
from agentlab.failures import refuse_all_failed
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.reflectors.grounded import GroundedReflector
from agentlab.trajectories.advice import AdviceBook, facts_of
from agentlab.trajectories.environment_pool import EnvironmentPool
from agentlab.trajectories.refinement import Refiner
from environments import EnvironmentDied, Task
from memory.records import Advice, Episode, Reflection, content_id

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

OWN_TRIALS = RecallConfig(transfer=0.0)
"""An explorer's usual memory: its earlier trials of the task, and nothing of other tasks."""


def explorer(
    adapter: str | None, temperature: float, recall: RecallConfig = OWN_TRIALS, actor: Actor | None = None
) -> Arm:
    """The model exploring with memory: sampled from the first trial on, in every trial at the temperature that is set.

    That is the temperature which balancing measured; later trials that were hotter would play what nobody measured.
    """
    policy = Policy(temperature=temperature, retry_temperature=temperature, growth=0.0)
    return Arm("explorer", adapter=adapter, recall=recall, policy=policy, actor=actor)


def collect_random(workspace: Workspace, run: str, tasks: Sequence[Task], *, trials: int, seed: int) -> int:
    """Explore each task at random until it is won, at most `trials` times; returns how many were won.

    The success, its refined form and what both teach are kept. A task in which the environment failed is left out,
    until the same is asked for again.
    """
    scope, stage = _scope(run), "exploring at random"
    workspace.progress.start(stage, len(tasks))
    done = explored(workspace, run)
    won, pool = 0, EnvironmentPool()
    try:
        for task in tasks:
            known = done.get(task.id)
            if known is None or "error" in known or (not known["won"] and known["trials"] < trials):
                try:
                    with pool.lent(task.env) as env:
                        found = random_exploration(env, task, run=run, trials=trials, seed=seed)
                    known = _store(workspace, pool, scope, task, found)
                except EnvironmentDied as error:
                    workspace.progress.say(f"{task.id} is left out: {error}")
                    known = {"won": False, "trials": 0, "error": str(error)}
                    workspace.database.journal.put(scope, task.id, known)
            won += bool(known["won"])
            workspace.progress.advance(stage, 1, f"{won} won")
    finally:
        pool.close()
        workspace.progress.finish(stage)
    return won


def _scope(run: str) -> str:
    return f"collect|{run}|random"


def explored(workspace: Workspace, run: str) -> dict[str, dict[str, Any]]:
    """By task, what random exploration came to: whether it was won, trials, and steps that refining took."""
    return workspace.database.journal.items(_scope(run))


def _store(
    workspace: Workspace, pool: EnvironmentPool, scope: str, task: Task, found: RandomExploration
) -> dict[str, Any]:
    refiner = Refiner(pool.lent)
    shown = refiner(found.episode)
    known = {
        "won": found.episode.won,
        "trials": found.trials,
        "episode": found.episode.id,
        "refining": refiner.cost.steps,
    }
    with workspace.database.transaction():
        workspace.database.episodes.put(found.episode)
        if shown is not found.episode:
            workspace.database.episodes.put(shown)
        workspace.memory.remember(reflections_on(found.episode, shown, found.book))
        workspace.database.journal.put(scope, task.id, known)
    return known


def reflections_on(episode: Episode, shown: Episode, book: AdviceBook) -> list[Reflection]:
    """The grounded reflections, of which the one that advises has what all trials showed, and the refined success as an
    exemplar."""
    reflections = GroundedReflector().reflect(episode)
    for reflection in reflections:
        if reflection.advice:  # in two of them the same facts would count twice
            reflection.advice = lasting(AdviceBook([*book.facts.values(), *_facts(shown)]))
    return [*reflections, *ExemplarReflector(lambda _: shown).reflect(episode)]


def _facts(episode: Episode) -> list[Advice]:
    return facts_of(episode.steps, lost=False) if episode.won else []


def lasting(book: AdviceBook) -> list[Advice]:
    """The facts that are worth keeping beyond the task's trials: gains, losses and penalties, not mere visits."""
    return [fact for fact in book.facts.values() if fact.value > 0 or fact.lost or fact.negative]


def collect_model(
    workspace: Workspace,
    run: str,
    tasks: Sequence[Task],
    *,
    adapter: str | None,
    trials: int,
    temperature: float,
    seed: int,
    recall: RecallConfig = OWN_TRIALS,
) -> list[TaskResult]:
    """The model plays each task with memory until it wins, at most `trials` times; successes are refined by replay.

    Raises RunFailed where the engine or a reflector fails in task after task or nothing came to its end for it: the
    same call plays again what failed.
    """
    arm = explorer(adapter, temperature, recall, actor_of(workspace))
    rollout = rollout_of(
        workspace, run, arm, seed=seed, reflectors=(GroundedReflector(), ExemplarReflector()), refining=True,
        hold_out_tools=True,
    )  # fmt: skip
    stage, won = "exploring with the model", 0
    workspace.progress.start(stage, len(tasks))

    def on_result(result: TaskResult) -> None:
        nonlocal won
        won += bool(result.won_within(trials))
        workspace.progress.advance(stage, 1, f"{won} won")

    try:
        results = rollout.play(tasks, arm, trials=trials, progress=on_result)
    finally:
        rollout.close()
        workspace.progress.finish(stage)
    refuse_all_failed((trial.error, trial.error_kind) for result in results for trial in result.trials)
    return results


def explore(
    workspace: Workspace, envs: str | Sequence[str], *, seeds: Sequence[int], trials: int, name: str | None = None
) -> int:
    """Random exploration of train games; see `Lab.explore`."""
    if trials < 1:
        raise BadConfig(f"trials must be 1 or more, not {trials}: in each of them a game is tried once.")
    workspace.must_write()
    tasks = make_tasks(envs, "train", seeds)
    run = name or content_id("run-explore", *(task.id for task in tasks))
    return collect_random(workspace, run, tasks, trials=trials, seed=workspace.config.seed)
