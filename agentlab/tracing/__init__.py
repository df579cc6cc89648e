"""Tracing: what was done, told to OpenTelemetry as spans, where a program or a person asks for that.

`span` is a piece of work, `destination` where spans go, `lines` the form in which a file has them. What a span says is
where its facts are: `agentlab.engines.spans` (model calls), `agentlab.agent.spans` (episodes, steps, recalls, tools).
Without anybody who listens nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

from agentlab.tracing.destination import VARIABLE, begin, end, goes_to
from agentlab.tracing.span import OFF, Span, carried, message, on, span, told, within, workflow

__all__ = [
    "OFF", "VARIABLE", "Span", "begin", "carried", "end", "goes_to", "message", "on", "span", "told", "within",
    "workflow",
]  # fmt: skip
