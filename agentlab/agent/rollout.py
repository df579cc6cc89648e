"""Many episodes at once: tasks side by side, the trials of one task after each other (as in Reflexion).

One slow or dead environment stops nobody else; Ctrl-C keeps what is finished; the same call again goes on where the
last one stopped, because every episode's id follows from what determines it. Episodes that errored are not finished:
the same call plays them again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from agentlab import failures, tracing
from agentlab.agent.arms import Arm
from agentlab.agent.episode import STOPPED, Play
from agentlab.agent.graph import build_graph, play_episode
from agentlab.agent.result import DatabaseSink, EpisodeSink, count_spent
from agentlab.agent.society import Society
from agentlab.agent.spec import EpisodeSpec
from agentlab.engines.base import Waiting
from agentlab.engines.model import Model
from agentlab.errors import AgentLabError, LimitReached, Stopped
from agentlab.reflectors.exemplar import ExemplarReflector
from agentlab.trajectories.environment_pool import EnvironmentPool
from agentlab.trajectories.refinement import Refiner
from environments import Task
from environments.worker import NOTICE
from memory.records import Episode, ErrorKind, Usage, now

if TYPE_CHECKING:
    from agentlab.agent.crew import Crew, Hand
    from agentlab.agent.experimental.society import Cast
    from agentlab.agent.recall import MemorySnapshot
    from agentlab.agent.router import Router
    from agentlab.reflectors.base import Reflector
    from agentlab.workspace.spending import Spending
    from agentlab.workspace.workspace import Workspace
    from memory import CreditConfig, Database, ReflectionMemory
    from memory.credit import ToolCredit


@dataclass(frozen=True)
class Trial:
    """How one trial of a task ended; if it errored, of what; `refining` is how many steps in the environment refining
    its success took, `invalid` how many of its actions were not admissible, `usage` what the model took, where that is
    known."""

    episode: str
    status: str
    score: float
    steps: int
    error: str | None = None
    error_kind: ErrorKind | None = None
    refining: int = 0
    invalid: int = 0
    usage: Usage | None = field(default=None, compare=False)

    @classmethod
    def stored(cls, summary: dict[str, Any]) -> Trial:
        """The trial of which a sink kept a summary."""
        usage = summary.get("usage")
        return cls(**{**summary, "usage": None if usage is None else Usage.model_validate(usage)})


@dataclass(frozen=True)
class TaskResult:
    """All trials of one task under one arm."""

    task: Task
    arm: str
    trials: tuple[Trial, ...]

    def won_within(self, trials: int) -> bool | None:
        """Whether one of the first `trials` trials won; None if that is unknown because one of them errored."""
        seen = self.trials[:trials]
        if any(trial.status == "won" for trial in seen):
            return True
        return None if any(trial.status == "errored" for trial in seen) else False

    @property
    def errored(self) -> bool:
        """Whether nothing is known of the task: every trial errored."""
        return bool(self.trials) and all(trial.status == "errored" for trial in self.trials)

    @property
    def part_errored(self) -> bool:
        """Whether a trial errored, so that the same call would play."""
        return any(trial.status == "errored" for trial in self.trials)

    @property
    def best_score(self) -> float:
        return max((trial.score for trial in self.trials), default=0.0)

    def __repr__(self) -> str:
        """Its task, its arm, and how each trial ended."""
        return f"<{self.task.id} by {self.arm}: {', '.join(trial.status for trial in self.trials) or 'not played'}>"


@dataclass
class Rollout:
    """Plays tasks under an arm and stores what was lived.

    Attributes:
        run: name of the run; with the same name, finished episodes are not played again.
        concurrency: tasks in flight at once (threads); an engine that reads many at once is asked for them together.
        checkpointer: LangGraph saver for episodes in flight; None plays them without.
        reflectors: draw reflections after each episode of an arm with memory; they are stored where `memory` is given.
        router: composes the skills of each episode, or says whose turn it is, for an arm that has them.
        spending: what models may take, and took.
        refining: successes on train games are refined by replay, and their refined forms kept for training.
        tool_credit: draws lots over the tools of train games; None holds none out.
        crew: the workers who play instead, if there are any; all that is above but `run`, `database`, `memory`,
            `spending` and `seed` is then theirs.
    """

    run: str
    database: Database
    model: Model | None
    memory: ReflectionMemory | None = None
    snapshot: MemorySnapshot | None = None
    reflectors: Sequence[Reflector] = ()
    checkpointer: Any = None
    router: Router | Cast | None = None
    concurrency: int = 2
    seed: int = 0
    refining: bool = False
    spending: Spending | None = None
    tool_credit: ToolCredit | None = None
    crew: Crew | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    pool: EnvironmentPool = field(default_factory=EnvironmentPool)
    _streak: failures.Streak = field(default_factory=failures.Streak, init=False, repr=False)

    def __post_init__(self) -> None:
        self.sink: EpisodeSink = DatabaseSink(self.database, self.memory)

    def play(
        self,
        tasks: Sequence[Task],
        arm: Arm,
        *,
        trials: int = 1,
        until_won: bool = True,
        again: bool = False,
        progress: Callable[[TaskResult], None] | None = None,
    ) -> list[TaskResult]:
        """Play every task for up to `trials` trials. Results come in the order of `tasks`.

        A trial that errors is stored as such, and played when the same call is made again; with `again` that call is
        made once at the end, without `progress`, for the tasks that need it. Raises Stopped after Ctrl-C
        or `stop.set()`, once the engine has scored the steps in flight; finished trials are stored. Raises LimitReached
        where nothing may be spent any more, RunFailed
        where episode after episode fails for one reason that is not the environment's.
        """
        adapter = self.model.adapter_id if self.model is not None else None
        if self.crew is None and arm.adapter != adapter:
            raise AgentLabError(
                f"This rollout plays with {adapter or 'the base'}, and the arm {arm.name!r} asks for "
                f"{arm.adapter or 'the base'}; make a rollout of that arm."
            )
        self._count_in_flight(tasks, arm, trials)
        results: dict[int, TaskResult] = {}
        waiting = iter(enumerate(tasks))
        flying: dict[Future[TaskResult], int] = {}
        with ThreadPoolExecutor(max_workers=self.concurrency, thread_name_prefix="rollout") as workers:
            try:
                while True:
                    for index, task in islice(waiting, self.concurrency - len(flying)):
                        play = tracing.carried(self._task)
                        flying[workers.submit(play, task, arm, trials, until_won)] = index
                    if not flying:
                        break
                    # Not for ever: a Ctrl-C that comes just before the waiting begins does not end it.
                    done, _ = wait(flying, timeout=NOTICE, return_when=FIRST_COMPLETED)
                    for future in done:
                        index = flying.pop(future)
                        results[index] = future.result()
                        if progress is not None:
                            progress(results[index])
            except BaseException as error:
                self.stop.set()
                # A step in flight is played again from the checkpoint, so nobody waits for an environment or an answer.
                # But what is paid for is kept.
                if not isinstance(error, LimitReached):
                    self.pool.give_up(Stopped(STOPPED))
                    if self.crew is not None:
                        self.crew.give_up()
                    if self.model is not None and isinstance(self.model.engine, Waiting):
                        self.model.engine.give_up(Stopped(STOPPED))
                wait(flying)
                if isinstance(error, KeyboardInterrupt):
                    raise Stopped(
                        f"Stopped with {len(results)} of {len(tasks)} tasks finished; "
                        "nothing is lost, the same command goes on from here."
                    ) from None
                raise
        if again and (errored := [index for index in results if results[index].part_errored]):
            played = self.play([tasks[index] for index in errored], arm, trials=trials, until_won=until_won)
            results |= dict(zip(errored, played, strict=True))
        return [results[index] for index in range(len(tasks))]

    def _task(self, task: Task, arm: Arm, trials: int, until_won: bool) -> TaskResult:
        with self.crew.lend(task.id, self.stop) if self.crew is not None else nullcontext() as hand:
            return self._trials(task, arm, trials, until_won, hand)

    def _trials(self, task: Task, arm: Arm, trials: int, until_won: bool, hand: Hand | None) -> TaskResult:
        played = list[Trial]()
        for trial in range(trials):
            spec = self._spec(task, arm, trial, hand)
            known = self.sink.known(self.run, spec.id)
            if known is None or known["status"] == "errored":
                first = known is None
                if hand is None:
                    self.episode(spec)
                else:
                    self._hand_over(spec, hand)
                known = self.sink.known(self.run, spec.id)
                assert known is not None, "stored with its episode"
                if first:  # what failed before stands beside other games now, and would be counted twice
                    self._streak.count(known["error"], known["error_kind"])
            elif self.checkpointer is not None:
                self._forget(spec)
            played.append(Trial.stored(known))
            if until_won and known["status"] == "won":
                break
        return TaskResult(task, arm.name, tuple(played))

    def _spec(self, task: Task, arm: Arm, trial: int, hand: Hand | None = None) -> EpisodeSpec:
        here = self.model.name if self.model is not None else arm.engine
        return EpisodeSpec(self.run, task, arm, trial, self.seed, hand.engine if hand is not None else here)

    def _count_in_flight(self, tasks: Sequence[Task], arm: Arm, trials: int) -> None:
        """Count what episodes that go on took before they were interrupted, where that is limited: of all of them
        before one takes a step."""
        if self.checkpointer is None or self.spending is None or not self.spending.limited:
            return
        for spec in (self._spec(task, arm, trial) for task in tasks for trial in range(trials)):
            known = self.sink.known(self.run, spec.id)
            if known is not None and known["status"] != "errored":
                continue  # counted with what is stored
            kept = self.checkpointer.get_tuple({"configurable": {"thread_id": spec.id}})
            if kept is not None and (took := kept.checkpoint["channel_values"].get("usage")):
                self.spending.resume(spec.id, Usage.model_validate(took))

    def _forget(self, spec: EpisodeSpec) -> None:
        """Where an episode that is stored stood: who was killed in between has not come to deleting that."""
        if self.checkpointer.get_tuple({"configurable": {"thread_id": spec.id}}) is not None:
            self.checkpointer.delete_thread(spec.id)

    def _hand_over(self, spec: EpisodeSpec, hand: Hand) -> None:
        """Have a worker play an episode, and keep what came of it."""
        if self.stop.is_set():
            raise Stopped(STOPPED)
        if self.spending is not None:
            self.spending.check()
        result = hand.play(spec)
        if self.spending is not None:
            self.spending.add(result.episode.usage, spec.id)
            if spec.arm.engine == "model" and result.episode.steps:
                self.spending.must_count(result.episode.usage, spec.engine)
        self.sink.put(result)

    def episode(self, spec: EpisodeSpec) -> Episode:
        """Play one episode here, to its end, and keep what came of it. Raises Stopped where that was asked for."""
        if self.stop.is_set():
            raise Stopped(STOPPED)
        env, episode = self.pool.take(spec.task.env), None
        refiner = Refiner(self.pool.lent) if self.refining and spec.task.split == "train" else None
        try:
            play = Play(
                spec,
                env,
                self.model,
                snapshot=self.snapshot if spec.arm.recall is not None else None,
                reflectors=self._reflectors(refiner) if spec.arm.recall is not None else (),
                refiner=refiner,
                sink=self.sink,
                router=self.router,
                stop=self.stop,
                spending=self.spending,
                tool_credit=self.tool_credit if spec.task.split == "train" else None,
            )
            with self.model.episode() if self.model is not None else nullcontext():
                episode = play_episode(play, build_graph(self.checkpointer))
            return episode
        finally:
            if episode is None or episode.status == "errored":
                self.pool.throw_away(env)
            else:
                self.pool.give(spec.task.env, env)

    def _reflectors(self, refiner: Refiner | None) -> list[Reflector]:
        """The reflectors; exemplars show what was refined in the environment in which their episode was just played."""
        return [
            reflector.refined_by(refiner) if refiner and isinstance(reflector, ExemplarReflector) else reflector
            for reflector in self.reflectors
        ]

    def close(self) -> None:
        """Close the environments of this rollout, and dismiss its workers."""
        self.pool.close()
        self.dismiss()

    def dismiss(self) -> None:
        """Let the workers go, if any play: for another rollout."""
        if self.crew is not None:
            self.crew.close()


def rollout_of(
    workspace: Workspace,
    run: str,
    arm: Arm,
    *,
    reflectors: Sequence[str | Reflector] | None = None,
    seed: int | None = None,
    refining: bool = False,
    hold_out_tools: bool = False,
    credit: CreditConfig | None = None,
    checkpoints: bool = True,
) -> Rollout:
    """A rollout of a lab for an arm, with its model, memory and checkpoints. Close it after use.

    Where the lab has workers, they play, without checkpoints: what was in flight when they end is played again.

    With `refining` it keeps the refined forms of what it wins on train games too. With `hold_out_tools` it plays some
    of these without one of their tools, where the lab measures what things are worth. `credit` says how that is
    measured of reflections, where not as in the lab.

    Raises UnknownReflector for a name that no reflector has.
    """
    from agentlab.agent.experimental.society import Attempts
    from agentlab.agent.recall import MemorySnapshot, counter
    from agentlab.agent.router import chooser
    from agentlab.reflectors.registry import build

    workspace.must_write()
    began = begun(workspace, run)
    if workspace.workers is not None:
        from agentlab.agent.crew import Crew, Order

        count_spent(workspace, [run])
        memory = workspace.memory if arm.recall is not None else None
        order = Order(run, arm, reflectors, seed, refining, hold_out_tools, credit)
        return Rollout(
            run,
            workspace.database,
            None,
            memory=memory,
            concurrency=workspace.concurrency,
            seed=workspace.config.seed if seed is None else seed,
            spending=workspace.spending,
            crew=Crew(workspace, order),
        )
    model = workspace.model(arm.adapter) if arm.engine == "model" else None
    snapshot = None
    if arm.recall is not None:
        if credit is None and workspace.config.credit and arm.recall.credit:
            credit = workspace.credit_config
        remembering = Attempts if isinstance(arm.router, Society) else MemorySnapshot
        snapshot = remembering(workspace.memory, run, began, count_tokens=counter(model), credit=credit)
    tool_credit = None
    if hold_out_tools and workspace.config.credit:
        from memory.credit import ToolCredit

        tool_credit = ToolCredit(workspace.database, workspace.credit_config, before=began)
    count_spent(workspace, [run])
    return Rollout(
        run,
        workspace.database,
        model,
        memory=workspace.memory if arm.recall is not None else None,
        snapshot=snapshot,
        reflectors=build(
            workspace.config.reflectors if reflectors is None else reflectors, model, lambda: workspace.critic
        ),
        checkpointer=workspace.checkpointer if checkpoints else None,
        router=chooser(workspace, arm.router, model) if arm.router is not None and model is not None else None,
        concurrency=workspace.concurrency,
        seed=workspace.config.seed if seed is None else seed,
        refining=refining,
        spending=workspace.spending,
        tool_credit=tool_credit,
    )


def begun(workspace: Workspace, run: str) -> str:
    """When a run began, which may be now."""
    with workspace.database.transaction():
        known = workspace.database.journal.get("run", run) or {"at": now()}
        workspace.database.journal.put("run", run, known)
    return str(known["at"])
