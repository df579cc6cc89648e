"""The spans of an episode, by OpenTelemetry's conventions for generative AI: itself, its steps, recalls and tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentlab import tracing
from agentlab.engines.spans import LOCAL, named
from agentlab.tracing import Span
from environments import TextEnv
from environments.tools import WithTools

if TYPE_CHECKING:
    from agentlab.agent.spec import EpisodeSpec
    from agentlab.engines.model import Model
    from memory.records import Episode, Step


def episode(spec: EpisodeSpec, model: Model | None) -> Span:
    """The span of an episode."""
    if not tracing.on():
        return tracing.OFF
    arm, task = spec.arm, spec.task
    return tracing.span(
        f"invoke_agent {arm.name}",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": LOCAL,
            "gen_ai.agent.name": arm.name,
            "gen_ai.conversation.id": spec.id,
            **(named(model.name, model.adapter_id) if model is not None else {}),
            "run": spec.run,
            "arm": arm.name,
            "actor": arm.player.name,
            "task": task.id,
            "env": task.env,
            "split": task.split,
            "seed": task.seed,
            "trial": spec.trial,
        },
    )


def ended(span: Span, lived: Episode) -> None:
    """Note how an episode ended."""
    if span is tracing.OFF:
        return
    span.note(
        {
            "adapter": lived.adapter,  # a router has chosen it by now
            "status": lived.status,
            "score": lived.score,
            "steps": len(lived.steps),
        }
    )
    span.tell("goal", lived.goal)
    if lived.error_kind is not None:
        span.fail(lived.error_kind, lived.error or "")


def step(index: int) -> Span:
    """The span of a step: the decision, and what the environment makes of it."""
    return tracing.span("step", {"step": index})


def took(span: Span, done: Step) -> None:
    """Note what a step came to."""
    if span is tracing.OFF:
        return
    span.note(
        {
            "commands": len(done.admissible),
            "reward": done.reward,
            "score": done.score,
            "invalid": done.invalid or None,
        }
    )
    span.tell("observation", done.observation)
    span.tell("thought", done.thought)
    span.tell("command", done.action)
    span.tell("result", done.result)


def recall(channel: str, query: str) -> Span:
    """The span of a search of the memory: for the `prompt`, for action priors (`advice`), or by a `tool`."""
    span = tracing.span("search_memory", {"gen_ai.operation.name": "search_memory", "channel": channel})
    span.tell("gen_ai.memory.query.text", query)
    return span


def found(span: Span, reflections: Sequence[str], texts: Sequence[str] = ()) -> None:
    """Note which reflections were found, and what is told of them."""
    if span is tracing.OFF:
        return
    span.note({"gen_ai.memory.record.count": len(reflections), "reflections": list(reflections)})
    span.tell("gen_ai.memory.records", [{"content": text} for text in texts])


def tool_call(env: TextEnv, command: str) -> Span:
    """The span of a command that calls a tool; nothing for one of the game."""
    name = env.called(command) if tracing.on() and isinstance(env, WithTools) else ""
    if not name:
        return tracing.OFF
    kind = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
    span = tracing.span(f"execute_tool {name}", kind)
    span.tell("gen_ai.tool.call.arguments", command)
    return span


def told(span: Span, env: TextEnv, result: str) -> None:
    """Note what a tool answered, or that it failed."""
    if span is tracing.OFF or not isinstance(env, WithTools):
        return
    span.tell("gen_ai.tool.call.result", result)
    if env.failure:
        span.fail(env.failure, result)
