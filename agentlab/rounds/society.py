"""Multiagent finetuning: several agents play, see each other's attempts, and each is trained on what is its own
(Subramaniam et al. 2025, Multiagent Finetuning: Self Improvement with Diverse Reasoning Chains, §2).

N generators play each train game, then N critics, in whose prompts the attempts of all generators stand. Generator n is
trained on its own attempts that are right; critic n on its own that are right, of which the share w were preceded by a
wrong attempt of generator n, and 1 − w by a right one. Right is what the game says, or, where nothing is to be told,
what most critics of a game came to. All begin at the base, with random numbers of their own.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agentlab.agent.arms import Arm, society_arm
from agentlab.agent.playing import actor_of, prompting_of
from agentlab.agent.rollout import rollout_of
from agentlab.agent.society import Society, serving
from agentlab.agent.tasks import make_tasks
from agentlab.failures import refuse_all_failed
from agentlab.rounds.held_out import held_out
from agentlab.rounds.pool import as_read
from agentlab.rounds.records import Records, tokenizer
from agentlab.rounds.report import RoundReport, reports, save
from agentlab.rounds.selecting import fail, job_config
from agentlab.rounds.training import noted, trained
from memory.records import Episode
from memory.store import EpisodeFilter
from trainers import Member
from trainers.data import draw, from_episode, start_of, starts_of

if TYPE_CHECKING:
    from pathlib import Path

    from agentlab.rounds.parts import SocietyConfig
    from agentlab.workspace.workspace import Workspace

STAGE, JOBS = "society", "society jobs"


@dataclass(frozen=True)
class Game:
    """What a society played of one game: the attempts of the generators, and those of the critics; None is one that
    errored."""

    first: Sequence[Episode | None]
    final: Sequence[Episode | None]

    @property
    def played(self) -> list[Episode]:
        return [one for one in (*self.first, *self.final) if one is not None]


Right = Callable[[Episode], bool]


def by_outcome(game: Game) -> Right:
    """What was won is right."""
    return lambda episode: episode.won


def by_votes(game: Game) -> Right:
    """The sequence of actions that most critics came to is right; where several have as many votes, nothing is."""
    votes = Counter(_actions(one) for one in game.final if one is not None).most_common(2)
    tied = len(votes) == 2 and votes[0][1] == votes[1][1]
    return lambda episode: bool(votes) and not tied and _actions(episode) == votes[0][0]


TARGETS: dict[str, Callable[[Game], Right]] = {"outcome": by_outcome, "votes": by_votes}


def _actions(episode: Episode) -> tuple[str, ...]:
    return tuple(step.action for step in episode.steps)


def own_episodes(games: Sequence[Game], config: SocietyConfig, seed: int) -> dict[str, list[Episode]]:
    """What each agent is trained on, by its name (`generator 1`, …, `critic 1`, …), in the order of the games.

    A critic's can be there several times: see `mixture`.
    """
    own, corrected, kept = (defaultdict[int, list[Episode]](list) for _ in range(3))
    for game in games:
        right = TARGETS[config.target](game)
        for at, (first, final) in enumerate(zip(game.first, game.final, strict=True), 1):
            if first is not None and right(first):
                own[at].append(first)
            if first is not None and final is not None and right(final):
                (kept if right(first) else corrected)[at].append(final)
    generators = {f"generator {at}": own[at] for at in sorted(own)}
    return generators | {
        f"critic {at}": mixture(corrected[at], kept[at], config.corrected, seed) for at in sorted({*corrected, *kept})
    }


def mixture(corrected: Sequence[Episode], kept: Sequence[Episode], share: float, seed: int) -> list[Episode]:
    """w·D⁻ + (1 − w)·D⁺: as many episodes as there are of both, of which the `share` w are `corrected` ones, and the
    rest `kept`; each of a kind as often as any other of it, give or take one. Without any of one kind, the other alone.
    """
    if not corrected or not kept:
        return [*corrected, *kept]
    many = len(corrected) + len(kept)
    wanted = min(max(round(share * many), 1), many - 1)
    return [*_taken(corrected, wanted, seed), *_taken(kept, many - wanted, seed)]


def _taken(episodes: Sequence[Episode], count: int, seed: int) -> list[Episode]:
    ordered = sorted(episodes, key=lambda episode: draw(seed, episode.id, "society|"))
    return [ordered[at % len(ordered)] for at in range(count)]


# -- the node ----------------------------------------------------------------------------------------------------------


def society(workspace: Workspace, report: RoundReport) -> str:
    """Play the train games, and train the agents, one job after the other; the first of them becomes the candidate, the
    others stay what no gate has let serve.

    Raises AgentLabError, and ends the round as failed, where no attempt is right.
    """
    config = report.config.society
    assert config is not None, "the round begins here because it has one"
    jobs = _written(workspace, report)
    if jobs is None:
        jobs = _played_and_chosen(workspace, report, config)
    for member, folder in jobs:
        done = trained(workspace, folder, f"training {member.name}")
        report.society[member.name] = adapter = workspace.adapters.register(folder).id
        if folder.name == report.id:
            report.adapter, report.training = adapter, noted(done)
    return "monitor"


def _played_and_chosen(workspace: Workspace, report: RoundReport, config: SocietyConfig) -> list[tuple[Member, Path]]:
    """Play, and write the job of each agent; once they all stand, nothing is played or chosen again."""
    report.collected[STAGE] = play(workspace, report, config)
    forbidden, left_out = starts_of(held_out(workspace, report)), Counter[str]()
    games = list[Game]()
    for game in played(workspace, report, config):
        if any(start_of(one) in forbidden for one in game.played):
            left_out["begins like a held-out game"] += len(game.played)
        else:
            games.append(game)
    data = own_episodes(games, config, report.config.seed)
    left_out["not right, or too many of its kind"] = sum(len(game.played) for game in games) - len(
        {episode.id for episodes in data.values() for episode in episodes}
    )
    jobs = _jobs(workspace, report, data, left_out)
    report.left_out = dict(+left_out)
    if not jobs:
        why = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none was played"
        fail(workspace, report, f"{report.id} has nothing to train a society on ({why}); give it more or easier games.")
    with workspace.database.transaction():
        workspace.database.journal.put(JOBS, report.id, {"folders": [folder.name for _, folder in jobs]})
        save(workspace, report)
    return jobs


def _written(workspace: Workspace, report: RoundReport) -> list[tuple[Member, Path]] | None:
    """The jobs of this round, if all of them were written. What a kill left of them before that is removed: attempts
    that errored are played again, and what is chosen may be others then."""
    from trainers import job

    jobs, known = workspace.folder / "jobs", workspace.database.journal.get(JOBS, report.id)
    if known is None:
        for left in [jobs / report.id, *jobs.glob(f"{report.id}-generator-*"), *jobs.glob(f"{report.id}-critic-*")]:
            shutil.rmtree(left, ignore_errors=True)
        return None
    found = [(job.load(jobs / name).lineage.member, jobs / name) for name in known["folders"]]
    return [(member, folder) for member, folder in found if member is not None]


def _jobs(
    workspace: Workspace, report: RoundReport, data: Mapping[str, Sequence[Episode]], left_out: Counter[str]
) -> list[tuple[Member, Path]]:
    """The job of each agent that has something to learn. That of the candidate has the name of the round, as in all
    other rounds."""
    config, jobs, selected = report.config.society, list[tuple[Member, "Path"]](), Counter[str]()
    assert config is not None, "it is a round of a society"
    for name, episodes in data.items():
        kind, number = name.split()
        member = Member(
            kind=kind, number=int(number), agents=config.agents, told=config.target == "outcome",
            temperature=report.config.temperature,
        )  # fmt: skip
        made = _records(workspace, report, member, episodes)
        left_out += made.left_out
        if made.records:
            selected += made.selected
            folder = f"{report.id}-{kind}-{number}" if jobs else report.id
            jobs.append((member, _create(workspace, report, member, made, folder)))
    report.selected = dict(selected)
    return jobs


def cast(workspace: Workspace, report: RoundReport, config: SocietyConfig) -> Society:
    """Who plays in this round: the society whose generator serves, else what serves in all parts."""
    told = config.target == "outcome"
    found = serving(workspace, report.incumbent)
    if found is None or len(found.society.generators) != config.agents:
        return Society.alike(report.incumbent, config.agents, told=told)
    return Society(found.society.generators, found.society.critics, told)


def arm_of(workspace: Workspace, report: RoundReport, config: SocietyConfig) -> Arm:
    """The arm of this round's society."""
    arm = society_arm(cast(workspace, report, config), report.config.temperature)
    return arm.with_(actor=actor_of(workspace))


def run_of(report: RoundReport) -> str:
    """The run of what its society played."""
    return f"{report.id}-society"


def play(workspace: Workspace, report: RoundReport, config: SocietyConfig) -> dict[str, int]:
    """Have every agent play every game; how many were won by any, and by how many generators and critics."""
    tasks = make_tasks(report.config.envs, "train", report.config.train_seeds(report.number))
    arm, trials = arm_of(workspace, report, config), 2 * config.agents
    rollout = rollout_of(workspace, run_of(report), arm, reflectors=(), seed=report.config.seed, hold_out_tools=True)
    workspace.progress.start(STAGE, len(tasks))
    try:
        results = rollout.play(
            tasks, arm, trials=trials, until_won=False, again=True,
            progress=lambda result: workspace.progress.advance(STAGE),
        )  # fmt: skip
    finally:
        rollout.close()
        workspace.progress.finish(STAGE)
    refuse_all_failed((trial.error, trial.error_kind) for result in results for trial in result.trials)
    won = [[trial.status == "won" for trial in result.trials] for result in results]
    return {
        "tasks": len(tasks),
        "won": sum(map(any, won)),
        "by generators": sum(sum(one[: config.agents]) for one in won),
        "by critics": sum(sum(one[config.agents :]) for one in won),
    }


def played(workspace: Workspace, report: RoundReport, config: SocietyConfig) -> list[Game]:
    """What societies of this size played of these environments, in this round and all before it."""
    database, games = workspace.database, list[Game]()
    for one in reports(workspace):
        if one.number > report.number or one.config.society is None or one.config.society.agents != config.agents:
            continue
        tasks = defaultdict[str, dict[int, str]](dict)
        for row in database.episodes.find(EpisodeFilter(run=run_of(one))):
            if row.env in report.config.envs and row.status != "errored" and row.minimised_from is None:
                tasks[row.task][row.trial] = row.id
        for _, ids in sorted(tasks.items()):
            known = dict(zip(ids, database.episodes.load([*ids.values()]), strict=True))
            all_trials = [known.get(trial) for trial in range(2 * config.agents)]
            games.append(Game(all_trials[: config.agents], all_trials[config.agents :]))
    return games


def _records(workspace: Workspace, report: RoundReport, member: Member, episodes: Sequence[Episode]) -> Records:
    """The records of one agent: a critic's with the attempts in its prompt."""
    prompting, made = prompting_of(workspace), Records()
    for episode in episodes:
        make = partial(
            from_episode, as_read(episode, prompting), tokenizer(workspace), with_hints=member.kind == "critic",
            max_tokens=report.config.training.max_tokens,
        )  # fmt: skip
        made.add(make, episode.env, [episode.id])
    return made


def _create(workspace: Workspace, report: RoundReport, member: Member, made: Records, name: str) -> Path:
    """Write the job of one agent, with random numbers of its own."""
    from trainers import job
    from trainers.training import code_version

    config = job_config(workspace, report.config)
    number = member.number + (member.agents if member.kind == "critic" else 0)
    config = config.model_copy(update={"seed": (config.seed + number - 1) % 2**32})
    lineage = job.Lineage(
        round=report.id,
        parent=report.incumbent,
        episodes=list(dict.fromkeys(made.episodes)),
        seeds=[config.seed],
        code_version=code_version(),
        member=member,
    )
    folder = workspace.folder / "jobs" / name
    job.create(folder, config, made.records, lineage)
    return folder
