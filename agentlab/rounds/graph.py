"""The LangGraph graph of a round, and how a round is run, gone on with, and given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypedDict

from agentlab import tracing
from agentlab.agent.playing import RANKING, playing_of
from agentlab.agent.result import count_spent
from agentlab.agent.tasks import check_tasks
from agentlab.engines import hub
from agentlab.errors import AgentLabError, BadConfig
from agentlab.rounds.balancing import balance
from agentlab.rounds.calling import call
from agentlab.rounds.challenges import fresh_seeds, next_challenge
from agentlab.rounds.checking import check_actor, check_practice, check_settings, hopeless
from agentlab.rounds.collecting import collect
from agentlab.rounds.config import RoundConfig
from agentlab.rounds.gating import gate, promote, reject
from agentlab.rounds.judging import check_judge, judge
from agentlab.rounds.monitoring import monitor
from agentlab.rounds.pool import check_sources
from agentlab.rounds.practising import practise
from agentlab.rounds.report import RoundReport, load, reports, save
from agentlab.rounds.retention import check_retention
from agentlab.rounds.retiring import retire
from agentlab.rounds.revising import revise
from agentlab.rounds.selecting import select
from agentlab.rounds.society import society
from agentlab.rounds.training import train

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

Node = Callable[["Workspace", RoundReport], str]
"""Does its part of a round, notes it in the report, and names the next node, or `done`."""

# In the order in which a round comes to them.
NODES: dict[str, Node] = {
    "balance": balance,
    "collect": collect,
    "revise": revise,
    "call": call,
    "judge": judge,
    "select": select,
    "train": train,
    "practise": practise,
    "society": society,
    "monitor": monitor,
    "gate": gate,
    "retention": check_retention,
    "promote": promote,
    "reject": reject,
    "retire": retire,
}


class RoundState(TypedDict, total=False):
    """What LangGraph keeps of a round: where it stands. The facts are in the lab's database."""

    round: str
    phase: str


def run_round(workspace: Workspace, config: RoundConfig, *, until: str | None = None) -> RoundReport:
    """Run a round to its end. An unfinished one is finished first, with its own settings, and returned.

    With `until` it stops before that node, and the next call goes on there; one that has come so far is left alone.

    Raises BadConfig if a fold has fewer games than the settings ask for, one of them could change nothing, a selector
    can never have what it needs, or no candidate could pass the gate to which the round goes, UnknownModel if the base
    has no weights here, BadTexts or UnknownEpisode if what they name is not there, UnknownReporter or MissingDependency
    if curves cannot go where they are to go, AgentLabError if there is nothing to train on; the collected episodes
    stay.
    """
    from trainers.training import check_reporters

    config = config.named()
    hub.recognise(workspace.config.model)  # a base without weights here can be taught nothing
    ended = _ended_unsaid(workspace)
    if ended is not None and ended.config == config:
        return ended
    report = next((report for report in reports(workspace) if not report.ended), None)
    if config.plays_to_train if report is None else report.phase == "practise":
        check_practice(workspace, elsewhere=until is not None)
    if report is not None:
        workspace.progress.say(f"Going on with {report.id} at '{report.phase}'.")
        if report.config != config:
            workspace.progress.say("Its settings differ from those given now; it keeps its own.")
    else:
        number = len(reports(workspace)) + 1
        # A round that could never end is refused before it has begun.
        check_settings(config, elsewhere=until is not None)
        check_actor(config, workspace.config.actor)
        if until is None and (problem := hopeless(config, next_challenge(workspace))):
            raise BadConfig(problem)
        dev = fresh_seeds(workspace, config.envs, config.dev_seeds)
        check_tasks(config.tasks(number, dev))
        check_sources(workspace, config)
        check_judge(workspace, config)
        check_reporters(config.training.report_to, installed=until is None)
        report = RoundReport(
            id=f"round-{number}", number=number, config=config, phase=config.begins, incumbent=workspace.serving(),
            playing=playing_of(workspace), challenge=next_challenge(workspace), dev_from=dev[0],
        )  # fmt: skip
        save(workspace, report)
    # What it took before it was interrupted: its parts that are finished are not come to again.
    known = workspace.database.episodes.runs() if workspace.spending.limited else set()
    count_spent(workspace, (run for run in known if run == report.id or run.startswith(f"{report.id}-")))
    nodes = list(NODES)
    if until is not None and nodes.index(report.phase) >= nodes.index(until):
        return report
    graph = _builder().compile(checkpointer=workspace.checkpointer)
    state = graph.get_state(_thread(report))
    # The checkpoint of a round that an earlier version left may name nodes otherwise; where it stands, the report says.
    begin = None if report.phase in state.next else {"round": report.id, "phase": report.phase}
    told = {"round": report.id, "envs": report.config.envs, "adapter": report.incumbent}
    try:
        with _played_as(workspace, report), tracing.workflow("round", told) as span:
            graph.invoke(
                begin, _thread(report), context=workspace, durability="sync",
                interrupt_before=[until] if until else None,
            )  # fmt: skip
            after = load(workspace, report.id)
            span.note({"phase": after.phase, "promoted": after.promoted, "candidate": after.adapter})
    except AgentLabError:
        # A round that has failed for good leaves nothing behind that could go on.
        if load(workspace, report.id).ended:
            workspace.checkpointer.delete_thread(report.id)
        raise
    report = load(workspace, report.id)
    if report.ended:
        workspace.checkpointer.delete_thread(report.id)
    return report


@contextmanager
def _played_as(workspace: Workspace, report: RoundReport) -> Iterator[None]:
    """Have the lab's model play as it did when the round began: its gate must compare what its games were played by."""
    now, changed = workspace.config, playing_of(workspace) != report.playing
    workspace.config = now.model_copy(update=RANKING | report.playing)
    if changed:
        how = ", ".join(f"{name} = {getattr(workspace.config, name)}" for name in RANKING)
        workspace.progress.say(f"{report.id} goes on as it began: its model plays with {how}.")
    try:
        yield
    finally:
        workspace.config = now


def abandon(workspace: Workspace, round_id: str, reason: str = "") -> RoundReport:
    """Give up an unfinished round, so that the next call begins a new one. What it made stays: episodes, reflections,
    its job folder, and its adapter as a candidate that was not evaluated.

    Raises AgentLabError if it has ended already.
    """
    report = load(workspace, round_id)
    if report.ended:
        raise AgentLabError(f"{report.id} has ended ({report.phase}); only an unfinished round can be abandoned.")
    report.note = f"Abandoned at '{report.phase}'{f': {reason}' if reason else ''}. What it made is kept."
    save(workspace, report, "abandoned")
    workspace.checkpointer.delete_thread(report.id)
    return report


@cache
def _builder() -> Any:
    from langgraph.graph import END, START, StateGraph

    graph: Any = StateGraph(RoundState)
    ways = {**{name: name for name in NODES}, "done": END}
    for name, node in NODES.items():
        graph.add_node(name, partial(_run, node))
        graph.add_conditional_edges(name, lambda state: state["phase"], ways)
    graph.add_conditional_edges(START, lambda state: state["phase"], ways)
    return graph


def _run(node: Node, state: RoundState, runtime: Any) -> RoundState:
    workspace: Workspace = runtime.context
    report = load(workspace, state["round"])
    with tracing.span(state["phase"], {"round": report.id}) as span:
        following = node(workspace, report)
        save(workspace, report, following)
        span.note({"next": following})
    return {"phase": following}


def _thread(report: RoundReport) -> dict[str, Any]:
    return {"configurable": {"thread_id": report.id}}


def _ended_unsaid(workspace: Workspace) -> RoundReport | None:
    """The last round, if it was killed after it had ended but before it could say so: the same call is to be answered
    by it."""
    known = reports(workspace)
    if not known or known[-1].phase != "done" or workspace.checkpointer.get_tuple(_thread(known[-1])) is None:
        return None
    workspace.checkpointer.delete_thread(known[-1].id)
    return known[-1]
