"""The agent: one episode as a LangGraph graph, recall → act → step → … → reflect → remember.

What the graph checkpoints is small: what was recalled, the actions, and a digest of every
observation. Environments and key/value caches cannot be pickled; after a kill they are rebuilt by playing the recorded
actions again from the task's seed, and every observation must be the recorded one (ReplayMismatch otherwise).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from agentlab import tracing
from agentlab.agent import spans
from agentlab.agent.episode import EpisodeState, Play, digest
from agentlab.failures import FAILURES, kind_of
from memory.records import Episode, Recall
from memory.text import novel


def _recall(state: EpisodeState, runtime: Any) -> EpisodeState:
    """Reset the environment, recall what helps, and open the conversation; a game that is over already has ended."""
    play: Play = runtime.context
    play.draw()
    lot = None if play.tool_lot is None else list(play.tool_lot)
    if play.reset():
        return {"actions": [], "digests": [digest(play.game.observation)], "ended": True, "tool_lot": lot}
    hints: str = ""
    ids: list[str] = []
    recalls: list[dict[str, Any]] = []
    if play.snapshot is not None and play.spec.arm.recall is not None:
        with spans.recall("prompt", play.game.observation) as span:
            play.recalled = play.snapshot.recall(play.spec, play.episode.goal, play.game.observation)
            hints, ids = play.recalled.hints, list(play.recalled.ids)
            spans.found(span, ids, [hints])
        recalls = _dumped(play.recalled.recalls)
    play.start_prompt(hints, ids)
    return {
        "hints": hints,
        "recalled": ids,
        "recalls": recalls,
        "tool_lot": lot,
        "began": play.episode.started_at,
        "actions": [],
        "digests": [digest(play.game.observation)],
        "ended": False,
    }


def _act(state: EpisodeState, runtime: Any) -> EpisodeState:
    """Have the actor decide, and send the action: in one node, for half the checkpoints and the same guarantees."""
    play: Play = runtime.context
    play.must_go_on()
    with spans.step(len(play.episode.steps)) as span:
        decision = play.select_action()
        record = play.record(decision) if play.spec.arm.prompting is not None else None
        ended = play.step(decision)
        spans.took(span, play.episode.steps[-1])
    after: EpisodeState = {
        "actions": [*state["actions"], decision.command],
        "digests": [*state["digests"], digest(play.game.observation)],
        "ended": ended,
        "usage": play.episode.usage.model_dump(),
    }
    if record is not None:
        after["written"] = [*state.get("written", []), record]
    recalls = play.recalled.recalls if play.recalled is not None else []
    if len(recalls) > len(state.get("recalls", [])):  # advice that was given or held out in this step
        after["recalls"] = _dumped(recalls)
    return after


def _reflect(state: EpisodeState, runtime: Any) -> EpisodeState:
    """Draw reflections from the finished trajectory (never from text that a recall put into the prompt)."""
    play: Play = runtime.context
    play.finalize()
    with tracing.span("reflect") as span:
        play.reflections = novel(play.reflect(), play.episode)
        span.note({"written": len(play.reflections)})
        span.tell("reflections", [one.text for one in play.reflections])
    return {}


def _remember(state: EpisodeState, runtime: Any) -> EpisodeState:
    """Store the result: the episode, its reflections, what it recalled and the outcome of that."""
    play: Play = runtime.context
    if play.reflections is None:  # killed between the two nodes: what was drawn then is drawn again
        _reflect(state, runtime)
    play.put()
    return {}


def _dumped(recalls: Sequence[Recall]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in recalls]


@cache
def _builder() -> Any:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(EpisodeState, context_schema=Play)
    graph.add_node("recall", _recall)
    graph.add_node("act", _act)
    graph.add_node("reflect", _reflect)
    graph.add_node("remember", _remember)
    graph.add_edge(START, "recall")
    for node in ("recall", "act"):
        graph.add_conditional_edges(node, lambda state: "reflect" if state["ended"] else "act", ["reflect", "act"])
    graph.add_edge("reflect", "remember")
    graph.add_edge("remember", END)
    return graph


def build_graph(checkpointer: Any = None) -> Any:
    """Compile the episode's graph. Its runtime context is a Play; its thread id is the episode's id."""
    return _builder().compile(checkpointer=checkpointer)


def play_episode(play: Play, graph: Any) -> Episode:
    """Play one episode to its end, going on from its checkpoint if it has one.

    A failure (see `agentlab.failures`) ends the episode as `errored`, with its cause and kind: it is stored, counts
    neither as failure nor as success, and is played afresh when it is asked for again. Raises Stopped when the run was
    asked to stop; the checkpoint then stands at the last whole step.
    """
    config: Any = {"configurable": {"thread_id": play.spec.id}, "recursion_limit": 10_000}
    durability: dict[str, Any] = {"durability": "async"} if graph.checkpointer else {}
    with spans.episode(play.spec, play.model) as span:
        try:
            unfinished = graph.get_state(config) if graph.checkpointer else None
            if unfinished is not None and unfinished.next and unfinished.values.get("digests"):
                play.restore(unfinished.values)
                graph.invoke(None, config, context=play, **durability)
            else:
                if unfinished is not None and unfinished.values:
                    graph.checkpointer.delete_thread(play.spec.id)
                graph.invoke({}, config, context=play, **durability)
        except FAILURES as failure:
            play.fail(str(failure), kind_of(failure))
            play.finalize()
            play.put()
        spans.ended(span, play.episode)
    if graph.checkpointer:
        graph.checkpointer.delete_thread(play.spec.id)
    return play.episode
