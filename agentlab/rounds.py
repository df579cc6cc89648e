"""One distillation round as a LangGraph graph: collect → select → train → gate → promote or reject.

A round is a transaction. Every node can be done twice without harm: finished work is found in the lab's journal, a
training job goes on from its checkpoint, ids follow from content. A kill at any node, and the same command again, gives
what an unbroken run gives.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from agentlab.arms import BASE, Arm
from agentlab.collect import collect_model, collect_random
from agentlab.errors import AgentLabError
from memory.records import Episode, Status, now
from trainers.gate import GateConfig
from trainers.selection import SelectionConfig

if TYPE_CHECKING:
    from agentlab.lab import Lab
    from environments import Task
    from environments.base import Split


class TrainingConfig(BaseModel):
    """How an adapter is trained; the names and defaults are those of `trainers.job.JobConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    learning_rate: float = Field(1e-3, gt=0.0)
    batch_size: int = Field(4, ge=1)
    epochs: int = Field(2, ge=1)
    max_tokens: int = Field(1024, ge=64)


class RoundConfig(BaseModel):
    """Settings of a round.

    Attributes:
        envs: the environments to learn.
        collect: who explores; `auto` is a random policy with memory while no adapter serves, and both after that.
        seeds: train seeds of each environment in this round.
        first_seed: the first of them; None takes the n-th block in the n-th round.
        random_trials: trials of the random policy at one task.
        model_trials: trials of the model at one task.
        temperature: at which the model explores.
        selection: which successes are trained on, out of all that the lab has.
        training: how.
        gate: when an adapter is promoted.
        gate_seeds: dev seeds of each environment on which candidate and incumbent are compared.
        held_out_seeds: that many dev and test games of each environment are compared with the training data, and what
            begins alike is not trained on.
        seed: of exploration, selection and training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    envs: list[str] = Field(min_length=1)
    collect: Literal["auto", "random", "model", "both", "none"] = "auto"
    seeds: int = Field(40, ge=1)
    first_seed: int | None = Field(None, ge=0)
    random_trials: int = Field(30, ge=1)
    model_trials: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    selection: SelectionConfig = SelectionConfig()
    training: TrainingConfig = TrainingConfig()
    gate: GateConfig = GateConfig()
    gate_seeds: int = Field(20, ge=1)
    held_out_seeds: int = Field(100, ge=0)
    seed: int = 0


class RoundReport(BaseModel):
    """What a round did. `phase` is `done` when it has ended, `failed` when it could not, else where it stands."""

    id: str
    number: int
    config: RoundConfig
    phase: str = "collect"
    started_at: str = Field(default_factory=now)
    ended_at: str | None = None
    incumbent: str | None = None
    collected: dict[str, dict[str, int]] = {}
    selected: dict[str, int] = {}
    left_out: dict[str, int] = {}
    adapter: str | None = None
    training: dict[str, Any] = {}
    gate: dict[str, Any] = {}
    promoted: bool | None = None
    note: str = ""


class RoundState(TypedDict, total=False):
    """What LangGraph keeps of a round: where it stands. The facts are in the lab's database."""

    round: str
    trained: bool
    passed: bool


def run_round(lab: Lab, config: RoundConfig) -> RoundReport:
    """Run a round to its end. An unfinished one is finished first, with its own settings, and returned.

    Raises BadConfig if a fold has fewer games than the settings ask for, AgentLabError if there is nothing to train on;
    the collected episodes stay.
    """
    from environments import canonical

    config = config.model_copy(update={"envs": [canonical(env) for env in config.envs]})
    ended = _ended_unsaid(lab)
    if ended is not None:
        return ended
    report = _unfinished(lab)
    if report is not None:
        lab.progress.say(f"Going on with {report.id} at '{report.phase}'.")
        if report.config != config:
            lab.progress.say("Its settings differ from those given now; it keeps its own.")
    else:
        number = len(reports(lab)) + 1
        report = RoundReport(id=f"round-{number}", number=number, config=config, incumbent=lab.serving())
        _check_games(report)
        _save(lab, report)
    graph = _builder().compile(checkpointer=lab.checkpointer)
    thread = {"configurable": {"thread_id": report.id}}
    state = graph.get_state(thread)
    graph.invoke(None if state.next else {"round": report.id}, thread, context=lab, durability="sync")
    lab.checkpointer.delete_thread(report.id)
    return _load(lab, report.id)


def reports(lab: Lab) -> list[RoundReport]:
    """All rounds of a lab, oldest first."""
    found = [RoundReport.model_validate(payload) for payload in lab.database.list_rounds().values()]
    return sorted(found, key=lambda report: report.number)


# -- the nodes ---------------------------------------------------------------------------------------------------------


def _collect(state: RoundState, runtime: Any) -> RoundState:
    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    config, tasks = report.config, _train_tasks(report)
    ways = config.collect
    if ways == "auto":
        ways = "random" if report.incumbent is None else "both"
    if ways in ("random", "both"):
        trials, seed = config.random_trials, config.seed
        won = collect_random(lab, report.id, tasks, trials=trials, seed=seed)
        report.collected["random"] = {"tasks": len(tasks), "won": won}
    if ways in ("model", "both"):
        results = collect_model(
            lab,
            report.id,
            tasks,
            adapter=report.incumbent,
            trials=config.model_trials,
            temperature=config.temperature,
            seed=config.seed,
        )
        won = sum(bool(result.won_within(config.model_trials)) for result in results)
        report.collected["model"] = {"tasks": len(tasks), "won": won}
    _save(lab, report, "select")
    return {}


def _select(state: RoundState, runtime: Any) -> RoundState:
    from trainers import job
    from trainers.errors import BadExample
    from trainers.examples import from_episode
    from trainers.selection import survey
    from trainers.weights import reference

    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    config = report.config
    chosen = survey(_successes(lab, config), config.selection, config.seed, held_out=_held_out(lab, config))
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
        report.ended_at = now()
        _save(lab, report, "failed")
        lab.checkpointer.delete_thread(report.id)
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
    _save(lab, report, "train")
    return {}


def _train(state: RoundState, runtime: Any) -> RoundState:
    from trainers import job

    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    folder, stage = lab.folder / "jobs" / report.id, "training"
    started = False

    def told(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal started
        if not started:
            lab.progress.start(stage, total)
            lab.progress.advance(stage, done - 1)
            started = True
        lab.progress.advance(stage, 1, f"loss {metrics['loss']:.3f}")

    outcome = job.run(folder, base=lab.model_folder, progress=told)
    if started:
        lab.progress.finish(stage)
    losses = outcome.report.losses
    report.training = {
        "examples": outcome.report.examples,
        "steps": outcome.report.steps,
        "tokens": outcome.report.tokens,
        "first_loss": round(losses[0], 4),
        "last_loss": round(sum(losses[-10:]) / len(losses[-10:]), 4),
        "seconds": round(outcome.report.seconds, 1),
        "tokens_per_second": round(outcome.report.tokens_per_second, 1),
    }
    report.adapter = lab.adapters.register(folder).id
    _save(lab, report, "gate")
    return {"trained": True}


def _gate(state: RoundState, runtime: Any) -> RoundState:
    from agentlab.lab import make_tasks
    from trainers.gate import decide

    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    config = report.config
    assert report.adapter is not None
    tasks = make_tasks(config.envs, "dev", range(config.gate_seeds))
    incumbent = BASE if report.incumbent is None else Arm(f"incumbent {report.incumbent}", adapter=report.incumbent)
    candidate = Arm(f"candidate {report.adapter}", adapter=report.adapter)
    played = [_held_out_play(lab, report, arm, tasks) for arm in (incumbent, candidate)]
    result = decide(played[1], played[0], config.gate)
    report.gate = result.model_dump(mode="json")
    _save(lab, report, "promote" if result.promote else "reject")
    return {"passed": result.promote}


def _promote(state: RoundState, runtime: Any) -> RoundState:
    from trainers.gate import GateResult

    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    assert report.adapter is not None
    if lab.serving() in (report.incumbent, report.adapter):
        lab.adapters.promote(report.adapter, GateResult.model_validate(report.gate))
        report.promoted = True
    else:
        report.note = f"{lab.serving() or 'The base'} was let serve meanwhile; the gate did not compare with that."
        report.promoted = False
    report.ended_at = now()
    _save(lab, report, "done")
    return {}


def _reject(state: RoundState, runtime: Any) -> RoundState:
    from trainers.gate import GateResult

    lab: Lab = runtime.context
    report = _load(lab, state["round"])
    assert report.adapter is not None
    if report.adapter == lab.serving():
        report.note = "Training gave the weights that serve already; they keep serving."
    else:
        lab.adapters.reject(report.adapter, GateResult.model_validate(report.gate))
    report.promoted, report.ended_at = False, now()
    _save(lab, report, "done")
    return {}


@cache
def _builder() -> Any:
    from langgraph.graph import END, START, StateGraph

    graph: Any = StateGraph(RoundState)
    for name, node in (("collect", _collect), ("select", _select), ("train", _train), ("gate", _gate)):
        graph.add_node(name, node)
    graph.add_node("promote", _promote)
    graph.add_node("reject", _reject)
    graph.add_edge(START, "collect")
    graph.add_edge("collect", "select")
    graph.add_edge("select", "train")
    graph.add_edge("train", "gate")
    graph.add_conditional_edges("gate", lambda state: "promote" if state["passed"] else "reject", ["promote", "reject"])
    graph.add_edge("promote", END)
    graph.add_edge("reject", END)
    return graph


# -- what they share ---------------------------------------------------------------------------------------------------


def _check_games(report: RoundReport) -> None:
    """Refuse a round that could never end, before it has begun: a fold has fewer games than it asks for."""
    from agentlab.lab import check_tasks, make_tasks

    config = report.config
    explored = [] if config.collect == "none" else _train_tasks(report)
    check_tasks([*explored, *make_tasks(config.envs, "dev", range(config.gate_seeds))])


def _train_tasks(report: RoundReport) -> list[Task]:
    from agentlab.lab import make_tasks

    config = report.config
    first = (report.number - 1) * config.seeds if config.first_seed is None else config.first_seed
    return make_tasks(config.envs, "train", range(first, first + config.seeds))


def _held_out_play(lab: Lab, report: RoundReport, arm: Arm, tasks: list[Task]) -> dict[Any, bool | None]:
    stage = f"gate: {arm.name}"
    rollout = lab.rollout(f"{report.id}-gate", arm)
    lab.progress.start(stage, len(tasks))
    won = 0

    def told(result: Any) -> None:
        nonlocal won
        won += bool(result.won_within(1))
        lab.progress.advance(stage, 1, f"{won} won")

    try:
        results = rollout.play(tasks, arm, progress=told)
    finally:
        rollout.close()
        lab.progress.finish(stage)
    return {result.task.id: result.won_within(1) for result in results}


def _successes(lab: Lab, config: RoundConfig) -> list[Episode]:
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


def _held_out(lab: Lab, config: RoundConfig) -> list[tuple[str, str]]:
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


def _unfinished(lab: Lab) -> RoundReport | None:
    return next((report for report in reports(lab) if report.phase not in ("done", "failed")), None)


def _ended_unsaid(lab: Lab) -> RoundReport | None:
    """The last round, if it was killed after it had ended but before it could say so: the same call is answered now."""
    known = reports(lab)
    thread: Any = {"configurable": {"thread_id": known[-1].id}} if known else {}
    if not known or known[-1].phase != "done" or lab.checkpointer.get_tuple(thread) is None:
        return None
    lab.checkpointer.delete_thread(known[-1].id)
    return known[-1]


def _load(lab: Lab, round_id: str) -> RoundReport:
    return RoundReport.model_validate(lab.database.get_round(round_id))


def _save(lab: Lab, report: RoundReport, phase: str | None = None) -> None:
    if phase is not None:
        report.phase = phase
    lab.database.put_round(report.id, report.model_dump(mode="json"))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("agentlab")
    except PackageNotFoundError:
        return "unknown"
