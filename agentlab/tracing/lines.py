"""Spans in a file: for each a line of OTLP's JSON, as OpenTelemetry has it for files, so that a collector reads it.

https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

_json = json.JSONEncoder(separators=(",", ":")).encode
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""What OTLP writes for what JSON has no number for."""


class Lines(SpanExporter):
    """Appends each span to a file as one whole line, also beside other processes that write there. Raises OSError."""

    def __init__(self, path: Path) -> None:
        # Unbuffered: what was written is not lost with the process.
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            line = f"{_json(encoded(span))}\n".encode()
            with self._lock:
                self._file.write(line)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()


def encoded(span: ReadableSpan) -> dict[str, Any]:
    """A span as OTLP's TracesData."""
    scope = span.instrumentation_scope
    named = {"name": scope.name, "version": scope.version or ""} if scope is not None else {}
    inner = {"scope": named, "spans": [_span(span)]}
    resource = {"attributes": _attributes(span.resource.attributes)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [inner]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    above = {"parentSpanId": format_span_id(span.parent.span_id)} if span.parent is not None else {}
    why = {"message": span.status.description} if span.status.description else {}
    return {
        **_ids(span.context),
        **above,
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP begins with one that is not known
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes),
        "events": [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [{**_ids(link.context), "attributes": _attributes(link.attributes)} for link in span.links],
        "status": {"code": span.status.status_code.value, **why},
    }


def _ids(context: SpanContext) -> dict[str, str]:
    return {"traceId": format_trace_id(context.trace_id), "spanId": format_span_id(context.span_id)}


def _attributes(given: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in (given or {}).items()]


def _value(value: object) -> dict[str, Any]:
    """A value as OTLP's AnyValue."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _NO_NUMBERS[str(value)]}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    return {"stringValue": str(value)}
