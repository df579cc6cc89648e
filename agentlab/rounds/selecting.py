"""Selecting: freeze what is trained on, as a job folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from agentlab import failures
from agentlab.errors import AgentLabError
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.learned_calls import learned
from agentlab.rounds.report import RoundReport, save
from agentlab.workspace import starts
from trainers import JobConfig

if TYPE_CHECKING:
    from agentlab.trajectories.environment_pool import EnvironmentPool
    from agentlab.workspace.workspace import Workspace
    from environments.base import Split


def select(workspace: Workspace, report: RoundReport) -> str:
    """Choose among all episodes of the lab, and write them with the settings of the training into `jobs/`.

    Raises AgentLabError, and ends the round as failed, if there is nothing to train on or a selector lacks something.
    """
    from agentlab.rounds.calling import with_calls, writes_calls
    from agentlab.rounds.records import records
    from memory.errors import UnknownEpisode
    from trainers import job
    from trainers.errors import BadTexts, CannotSelect, NothingToTrain
    from trainers.training import code_version

    config = report.config
    try:
        made = records(workspace, report, held_out(workspace, report))
    except (BadTexts, CannotSelect, UnknownEpisode) as error:
        fail(workspace, report, f"{report.id} cannot select: {error}.")
    report.left_out = dict(made.left_out)
    report.short_of = made.short_of
    report.kl_episodes = {env: len(ids) for env, ids in made.kl_episodes.items()}
    if writes_calls(config):
        chosen, called = set(made.episodes), with_calls(workspace, report)
        report.tools = learned(
            {id: (one.episode, one.calls) for id, one in called.items() if id in chosen and one.episode is not None}
        )
    report.selected = {env: made.selected[env] for env in dict.fromkeys([*config.envs, *made.selected])}
    if not made.episodes:
        why = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none was collected"
        what = "pair of a better and a worse episode" if config.training.in_pairs else "success"
        fail(
            workspace,
            report,
            f"{report.id} found no {what} to train on ({why}); give it more seeds or trials, or easier environments.",
        )
    settings = job_config(workspace, config)
    lineage = job.Lineage(
        round=report.id,
        parent=report.incumbent,
        episodes=list(dict.fromkeys(made.episodes)),
        reflections=list(dict.fromkeys(made.reflections)),
        kl_episodes=[id for ids in made.kl_episodes.values() for id in ids],
        seeds=[config.seed],
        code_version=code_version(),
    )
    try:
        job.create(workspace.folder / "jobs" / report.id, settings, made.records, lineage)
    except NothingToTrain as error:
        fail(workspace, report, f"{report.id} has nothing to train on: {error}.")
    return "train"


def job_config(workspace: Workspace, config: RoundConfig, **more: Any) -> JobConfig:
    """The settings of a round's job."""
    from trainers.training import reference

    return JobConfig(
        base=reference(workspace.config.model, workspace.model_folder),
        seed=config.seed,
        dtype=workspace.config.dtype,
        threads=workspace.threads,
        **config.training.model_dump(exclude={"max_tokens"}),
        **more,
    )


def fail(workspace: Workspace, report: RoundReport, why: str) -> NoReturn:
    """End the round for good, and say why."""
    report.note = f"{why} What was lived is kept."
    save(workspace, report, "failed")
    raise AgentLabError(report.note)


def held_out(workspace: Workspace, report: RoundReport) -> list[tuple[str, str]]:
    """How the dev and test games begin: what begins alike in training would be known by heart."""
    from agentlab.trajectories.environment_pool import EnvironmentPool

    config, stage = report.config, "looking at held-out starts"
    envs = [*config.envs, *config.kl.envs]
    workspace.progress.start(stage, len(envs))
    # A later round may look at these dev games for what it forgot.
    dev = max(report.dev_from + config.dev_seeds, config.forgetting.seeds)
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
        seeds = list(env.seeds(split))[:count]
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
