"""Practising: the model plays train games with the weights that are being trained, and learns from how they end (GRPO).

It takes the place of exploring, selecting and training. Its episodes are stored as all others are; the weights by which
each was played have the name of the round and the step.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab import failures
from agentlab.agent.arms import Arm
from agentlab.agent.playing import actor_of
from agentlab.agent.policy import Policy
from agentlab.agent.result import count_spent
from agentlab.agent.rollout import Rollout, begun
from agentlab.agent.tasks import make_tasks
from agentlab.engines.base import Adapter
from agentlab.engines.model import Model
from agentlab.experiments.collection import OWN_TRIALS
from agentlab.rounds.held_out import held_out
from agentlab.rounds.report import RoundReport
from agentlab.rounds.selecting import fail, job_config
from agentlab.rounds.training import noted
from agentlab.trajectories.environment_pool import EnvironmentPool
from environments import EnvironmentDied, Task
from memory.records import task_parts
from memory.store import EpisodeFilter

if TYPE_CHECKING:
    from agentlab.agent.recall import MemorySnapshot
    from agentlab.reflectors.base import Reflector
    from agentlab.workspace.workspace import Workspace
    from trainers.training import Group

STAGE = "practising"

BEFORE_ALL = "0"
"""Before every moment: what is known of a game from other runs does not advise the attempts at it."""


def work_folder(job: Path) -> Path:
    """Where the work of the job in a folder lies until that is made: checkpoints, the curve, what was learned from."""
    return job.with_name(f"{job.name}.practice")


def practise(workspace: Workspace, report: RoundReport) -> str:
    """Play and train by turns, or go on from the last checkpoint; the adapter becomes a candidate.

    Raises AgentLabError, and ends the round as failed, where nothing could be learned.
    """
    from trainers import job
    from trainers.errors import NothingToTrain

    folder = workspace.folder / "jobs" / report.id
    work = work_folder(folder)
    if not folder.exists() or job.result(folder) is None:
        pool = EnvironmentPool()
        try:
            _learn(workspace, report, pool, folder, work)
        except NothingToTrain as error:
            shutil.rmtree(work, ignore_errors=True)
            fail(workspace, report, f"{report.id} learned nothing: {error}.")
        finally:
            pool.close()
    outcome = job.result(folder)
    assert outcome is not None, "it was published"
    envs = (task_parts(record.example.task).env for record in job.load(folder).examples if record.spans)  # type: ignore[union-attr]
    report.selected = dict(Counter(envs))
    report.training = noted(outcome.report)
    rows = workspace.database.episodes.find(EpisodeFilter(run=run_of(report)))
    report.collected["grpo"] = {"tasks": len(rows), "won": sum(row.status == "won" for row in rows)}
    report.adapter = workspace.adapters.register(folder).id
    shutil.rmtree(work, ignore_errors=True)
    return "monitor"


def run_of(report: RoundReport) -> str:
    """The run of what was played to train."""
    return f"{report.id}-practice"


def _learn(workspace: Workspace, report: RoundReport, pool: EnvironmentPool, folder: Path, work: Path) -> None:
    """Train, and write the job folder as if it had been trained from what was played."""
    from trainers import job
    from trainers.training import code_version, learn, locate

    config, engine = report.config, workspace.engine
    settings = job_config(workspace, config, on_policy=config.on_policy)
    player = Practice(workspace, report, games(workspace, report, pool), pool)
    workspace.progress.start(STAGE, config.on_policy.steps)
    shown = 0

    def on_step(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal shown
        workspace.progress.advance(STAGE, done - shown, player.note)
        shown = done

    learned = learn(
        work,
        settings,
        locate(settings.base),
        player.play,
        len(player.games),
        engine.tokenize,  # type: ignore[union-attr]
        max_tokens=config.training.max_tokens,
        progress=on_step,
    )
    workspace.progress.finish(STAGE)
    told = [record for record in learned.records if record.spans]
    lineage = job.Lineage(
        round=report.id,
        parent=report.incumbent,
        episodes=list(dict.fromkeys(record.example.episode for record in told)),
        seeds=[config.seed],
        code_version=code_version(),
    )
    made = job.create(folder, settings, learned.records, lineage)
    if (work / "curve.jsonl").is_file():
        shutil.copyfile(work / "curve.jsonl", folder / "curve.jsonl")
    job.publish(made, learned.save_adapter, learned.canary, learned.report)


def games(workspace: Workspace, report: RoundReport, pool: EnvironmentPool) -> list[Task]:
    """The train games of this round, without those that begin like held-out ones or cannot begin.

    Raises AgentLabError if fewer are left than are played for a step.
    """
    from trainers.data import starts_of

    forbidden = starts_of(held_out(workspace, report))
    found, left_out = list[Task](), Counter[str]()
    for task in make_tasks(report.config.envs, "train", report.config.train_seeds(report.number)):
        try:
            with pool.lent(task.env) as env, failures.environment(task.env):
                observation, info = env.start(task)
        except EnvironmentDied:
            left_out["cannot begin"] += 1
            continue
        if starts_of([(str(info["goal"]), observation)]) <= forbidden:
            left_out["begins like a held-out game"] += 1
        else:
            found.append(task)
    report.left_out = dict(left_out)
    if len(found) < (each := report.config.on_policy.games):
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        few = f"{report.id} has {len(found)} games to practise on ({why}), and plays {each} for a step"
        fail(workspace, report, f"{few}; give it more games, or others.")
    return found


@dataclass
class Practice:
    """Plays the games of a round for its training, and says how it goes."""

    workspace: Workspace
    report: RoundReport
    games: list[Task]
    pool: EnvironmentPool
    note: str = ""
    _reflectors: Sequence[Reflector] | None = field(default=None, init=False)

    def play(self, step: int, games: list[int], adapter: Path | None) -> list[Group]:
        """The episodes of a step: each of these games by every member of its group, as often as there are attempts.

        The same call again plays only what is not stored yet.
        """
        settings, database = self.report.config.on_policy, self.workspace.database
        model = Model(self.workspace.engine, None if adapter is None else Adapter(self._name(step), adapter))
        again = settings.attempts > 1
        policy = Policy(temperature=1.0, retry_temperature=1.0, growth=0.0, advice=again)
        arm = Arm(
            f"practice, step {step}", adapter=model.adapter_id, policy=policy, actor=actor_of(self.workspace),
            recall=OWN_TRIALS if again else None,
        )  # fmt: skip
        snapshot = self._snapshot(model) if again else None
        begun(self.workspace, run_of(self.report))
        count_spent(self.workspace, [run_of(self.report)])
        tasks = [self.games[at] for at in games]
        members = list[list[list[str]]]()
        for member in range(settings.group):
            rollout = self._rollout(model, step * settings.group + member, snapshot)
            results = rollout.play(tasks, arm, trials=settings.attempts, until_won=False, again=True)
            members.append([[trial.episode for trial in result.trials] for result in results])
        known = {
            one.id: one for one in database.episodes.load([id for member in members for game in member for id in game])
        }
        groups = [[[known[id] for id in member[at]] for member in members] for at in range(len(tasks))]
        won = sum(one.won for one in known.values())
        self.note = f"{won} of {len(known)} won"
        return groups

    def _rollout(self, model: Model, number: int, snapshot: MemorySnapshot | None) -> Rollout:
        """That of a member of the groups: by its seed its attempts are told from those of the others."""
        workspace = self.workspace
        return Rollout(
            run_of(self.report),
            workspace.database,
            model,
            memory=workspace.memory if snapshot is not None else None,
            snapshot=snapshot,
            reflectors=self._reflecting(model) if snapshot is not None else (),
            checkpointer=workspace.checkpointer,
            concurrency=workspace.concurrency,
            seed=self.report.config.seed + (number << 32),
            spending=workspace.spending,
            pool=self.pool,
        )

    def _snapshot(self, model: Model) -> MemorySnapshot:
        from agentlab.agent.recall import MemorySnapshot, counter

        memory = self.workspace.memory
        return MemorySnapshot(memory, run_of(self.report), BEFORE_ALL, count_tokens=counter(model))

    def _reflecting(self, model: Model) -> Sequence[Reflector]:
        from agentlab.reflectors.registry import build

        if self._reflectors is None:
            self._reflectors = build(self.workspace.config.reflectors, model, lambda: self.workspace.critic)
        return self._reflectors

    def _name(self, step: int) -> str:
        return f"{self.report.id}-step-{step}"
