"""The second node: freeze what is trained on, as a job folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlab.errors import AgentLabError
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.report import RoundReport, save
from memory.records import Episode, Status

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from environments.base import Split


def select(lab: Lab, report: RoundReport) -> str:
    """Choose among all successes of the lab, and write them with the settings of the training into `jobs/`.

    Raises AgentLabError, and ends the round as failed, if there is nothing to train on.
    """
    from trainers import job
    from trainers.errors import BadExample
    from trainers.examples import from_episode
    from trainers.selection import survey
    from trainers.weights import reference

    config = report.config
    chosen = survey(successes(lab, config), config.selection, config.seed, held_out=held_out(lab, config))
    report.left_out = chosen.left_out
    engine: Any = lab.engine()
    examples, episodes = [], []
    for item in chosen.selected:
        try:
            example = from_episode(
                item.episode, engine.tokenize, weight=item.weight, max_tokens=config.training.max_tokens
            )
        except BadExample:  # its last turn alone is longer than what one example may be
            report.left_out["too long"] = report.left_out.get("too long", 0) + 1
            continue
        examples.append(example)
        episodes.append(item.episode)
    report.selected = {env: sum(episode.env == env for episode in episodes) for env in config.envs}
    if not examples:
        why = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none was collected"
        report.note = (
            f"{report.id} found no success to train on ({why}); give it more seeds or trials, or easier environments. "
            "What was lived is kept."
        )
        save(lab, report, "failed")
        raise AgentLabError(report.note)
    settings = job.JobConfig(
        base=reference(lab.config.model, lab.model_folder),
        seed=config.seed,
        dtype=lab.config.dtype,
        threads=lab.threads,
        **config.training.model_dump(exclude={"max_tokens"}),
    )
    lineage = job.Lineage(
        round=report.id,
        parent=report.incumbent,
        episodes=[episode.relabelled_from or episode.id for episode in episodes],
        seeds=[config.seed],
        code_version=_version(),
    )
    job.create(lab.folder / "jobs" / report.id, settings, examples, lineage)
    return "train"


def successes(lab: Lab, config: RoundConfig) -> list[Episode]:
    """All won episodes of the train fold that the lab has, and failures relabelled in hindsight where those are asked
    for. The latter are made here and never stored, so that nothing takes them for wins."""

    def of(status: Status) -> list[Episode]:
        rows = [row for env in config.envs for row in lab.database.episodes(env=env, split="train", status=status)]
        return lab.database.load_episodes([row.id for row in rows])

    if not config.selection.hindsight:
        return of("won")
    from agentlab.reflectors.hindsight import HindsightReflector

    relabel = HindsightReflector().relabel
    return [*of("won"), *(made for episode in [*of("lost"), *of("truncated")] for made in relabel(episode))]


def held_out(lab: Lab, config: RoundConfig) -> list[tuple[str, str]]:
    """How the dev and test games begin: what begins alike in training would be known by heart."""
    from environments import Task, make

    stage = "looking at held-out starts"
    lab.progress.start(stage, len(config.envs))
    starts = []
    for env_id in config.envs:
        env = make(env_id)
        try:
            folds: list[tuple[Split, int]] = [("dev", config.gate_seeds), ("test", config.held_out_seeds)]
            for split, count in folds:
                for seed in list(env.seeds(split))[:count]:
                    observation, info = env.start(Task(env=env_id, split=split, seed=seed))
                    starts.append((str(info["goal"]), observation))
        finally:
            env.close()
        lab.progress.advance(stage)
    lab.progress.finish(stage)
    return starts


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("agentlab")
    except PackageNotFoundError:
        return "unknown"
