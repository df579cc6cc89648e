"""Collecting successes: cheap exploration by a random policy, and the model's own play, both with memory.

Every task is one item of work in the journal; after a kill, tasks that are done are not played again, and a task that
was half done is played again from its seed with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agentlab.advice import AdviceBook, facts_of
from agentlab.arms import Arm, RecallConfig
from agentlab.babble import babble
from agentlab.minimise import refine
from agentlab.policy import Policy
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.reflectors.grounded import GroundedReflector
from environments import EnvironmentDied, Task, TextEnv
from memory.records import Advice, Episode, Reflection

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from agentlab.rollout import EnvironmentPool, TaskResult


OWN_TRIALS = RecallConfig(transfer=0.0)
"""An explorer's usual memory: its earlier trials of the task, and nothing of other tasks."""


def explorer(adapter: str | None, temperature: float, recall: RecallConfig = OWN_TRIALS) -> Arm:
    """The model exploring with memory: sampled from the first trial on."""
    policy = Policy(temperature=temperature, retry_temperature=temperature)
    return Arm("explorer", adapter=adapter, recall=recall, policy=policy)


def collect_random(lab: Lab, run: str, tasks: Sequence[Task], *, trials: int, seed: int) -> int:
    """Babble at each task until it is won, at most `trials` times; keep the success, its refined form and what both
    teach. Returns how many tasks were won. A task in which the environment failed is left out, until the same is asked
    for again."""
    from agentlab.rollout import EnvironmentPool

    scope, stage = f"collect|{run}|random", "exploring at random"
    lab.progress.start(stage, len(tasks))
    done = lab.database.journal_items(scope)
    won, pool = 0, EnvironmentPool()
    try:
        for task in tasks:
            known = done.get(task.id)
            if known is None or "error" in known:
                try:
                    with pool.lent(task.env) as env:
                        known = _explore(lab, env, run, scope, task, trials, seed)
                except EnvironmentDied as error:
                    lab.progress.say(f"{task.id} is left out: {error}")
                    known = {"won": False, "trials": 0, "error": str(error)}
                    lab.database.journal_put(scope, task.id, known)
            won += bool(known["won"])
            lab.progress.advance(stage, 1, f"{won} won")
    finally:
        pool.close()
        lab.progress.finish(stage)
    return won


def _explore(lab: Lab, env: TextEnv, run: str, scope: str, task: Task, trials: int, seed: int) -> dict[str, object]:
    found = babble(env, task, run=run, trials=trials, seed=seed)
    shown = refine(found.episode, env)
    known = {"won": found.episode.won, "trials": found.trials, "episode": found.episode.id}
    with lab.database.transaction():
        lab.database.put_episode(found.episode)
        if shown is not found.episode:
            lab.database.put_episode(shown)
        lab.memory.remember(reflections_on(found.episode, shown, found.book))
        lab.database.journal_put(scope, task.id, known)
    return known


def reflections_on(episode: Episode, shown: Episode, book: AdviceBook) -> list[Reflection]:
    """One grounded reflection with what all trials showed, and the refined success as an exemplar."""
    reflections = GroundedReflector().reflect(episode)
    for reflection in reflections:
        reflection.advice = lasting(AdviceBook([*book.facts.values(), *_facts(shown)]))
    return [*reflections, *_exemplars(episode, shown)]


def _exemplars(episode: Episode, shown: Episode) -> list[Reflection]:
    return ExemplarReflector(lambda _: shown).reflect(episode)


def _facts(episode: Episode) -> list[Advice]:
    return facts_of(episode.steps, lost=False) if episode.won else []


def lasting(book: AdviceBook) -> list[Advice]:
    """The facts that are worth keeping beyond the task's trials: gains, losses and penalties, not mere visits."""
    return [fact for fact in book.facts.values() if fact.value > 0 or fact.lost or fact.negative]


def collect_model(
    lab: Lab,
    run: str,
    tasks: Sequence[Task],
    *,
    adapter: str | None,
    trials: int,
    temperature: float,
    seed: int,
    recall: RecallConfig = OWN_TRIALS,
) -> list[TaskResult]:
    """The model plays each task with memory until it wins, at most `trials` times; successes are refined by replay."""
    arm = explorer(adapter, temperature, recall)
    rollout = lab.rollout(run, arm, seed=seed, reflectors=(GroundedReflector(),))
    stage, won = "exploring with the model", 0
    lab.progress.start(stage, len(tasks))

    def told(result: TaskResult) -> None:
        nonlocal won
        won += bool(result.won_within(trials))
        lab.progress.advance(stage, 1, f"{won} won")

    try:
        results = rollout.play(tasks, arm, trials=trials, progress=told)
        _refine_successes(lab, rollout.pool, run, results)
        return results
    finally:
        rollout.close()
        lab.progress.finish(stage)


def _refine_successes(lab: Lab, pool: EnvironmentPool, run: str, results: Sequence[TaskResult]) -> None:
    scope = f"collect|{run}|refined"
    done = lab.database.journal_items(scope)
    for result in results:
        for trial in result.trials:
            if trial.status != "won" or trial.episode in done:
                continue
            episode = shown = lab.database.episode(trial.episode)
            with suppress(EnvironmentDied), pool.lent(result.task.env) as env:  # then it is kept as it was played
                shown = refine(episode, env)
            with lab.database.transaction():
                if shown is not episode:
                    lab.database.put_episode(shown)
                lab.memory.remember(_exemplars(episode, shown))
                lab.database.journal_put(scope, trial.episode, {"refined": shown.id})
