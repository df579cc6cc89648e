"""The span of a model call, by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from collections.abc import Sequence

from agentlab import tracing
from agentlab.engines import hub
from agentlab.engines.base import Engine, ScoreRequest, Scores, Turn, TurnRequest, Waiting, WriteRequest, Writing
from agentlab.tracing import Span
from memory.records import Usage

Request = ScoreRequest | TurnRequest | WriteRequest
Answer = Scores | Turn | Writing

LOCAL = "agentlab"
"""The provider of a model that is behind no API."""

# Where the conventions and LangChain have two names for one provider.
_PROVIDERS = {
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}

RANKED = 10
"""Commands of a ranking that are told, the likeliest first."""


def named(model: str, adapter: str | None) -> dict[str, str]:
    """Who is asked: the provider, the model, and the adapter on it."""
    provider, _, name = model.partition(":") if hub.behind_api(model) else (LOCAL, "", model)
    adapted = {} if adapter is None else {"adapter": adapter}
    return {
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        # What was trained is another model, and is to be counted as one.
        "gen_ai.request.model": "+".join([name, *adapted.values()]),
        **adapted,
    }


def model_call(engine: Engine, requests: Sequence[Request]) -> Span:
    """The span in which an engine answers some requests, of which the first says what kind they are."""
    if not tracing.on() or not requests:
        return tracing.OFF
    first = requests[0]
    chat = isinstance(first, WriteRequest) or first.conversation.prompting.chat
    operation, who = "chat" if chat else "text_completion", named(engine.name, first.adapter and first.adapter.id)
    asked: dict[str, object] = {"gen_ai.operation.name": operation, **who}
    if isinstance(first, ScoreRequest):
        asked["commands"] = sum(len(request.commands) for request in requests if isinstance(request, ScoreRequest))
    else:
        asked |= {
            "gen_ai.request.max_tokens": first.max_tokens,
            "gen_ai.request.temperature": float(first.temperature),
            "gen_ai.request.seed": first.seed if first.temperature else None,
        }
    return tracing.span(f"{operation} {who['gen_ai.request.model']}", asked, client=isinstance(engine, Waiting))


def answered(span: Span, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
    """Note what the answers took; and where that may be told, the first request and its answer."""
    if span is tracing.OFF:
        return
    usage = sum((answer.usage for answer in answers), Usage())
    if usage.input_tokens or usage.output_tokens:
        span.note(
            {
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "cost": usage.cost or None,
            }
        )
    if span.content:
        first = requests[0]
        read = first.prompt if isinstance(first, WriteRequest) else first.conversation.text
        span.tell("gen_ai.input.messages", tracing.message("user", read))
        span.tell("gen_ai.output.messages", tracing.message("assistant", _said(first, answers[0])))


def _said(request: Request, answer: Answer) -> str:
    """What was answered: what was written, or the commands by their log-probabilities."""
    if not isinstance(answer, Scores):
        return answer.text
    commands = request.commands if isinstance(request, ScoreRequest) else ()
    ranked = sorted(zip(answer.logprobs, commands, strict=False), reverse=True)[:RANKED]
    return "\n".join(f"{score:.3f} {command}" for score, command in ranked)
