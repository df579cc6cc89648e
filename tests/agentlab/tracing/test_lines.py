"""A span in a file is OTLP's JSON, whatever program made it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from agentlab.tracing.lines import Lines


def written(path: Path) -> tuple[TracerProvider, Any]:
    """A provider that writes into a file, and a tracer of it."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Lines(path)))
    return provider, provider.get_tracer("theirs", "1.2")


def read(path: Path) -> list[dict[str, Any]]:
    """The spans in a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in lines]


def test_every_value_has_the_form_that_otlp_has_for_it(tmp_path: Path) -> None:
    _, tracer = written(tmp_path / "spans.jsonl")
    given = {
        "text": "é \ud800", "yes": True, "many": 2**60, "some": 0.5, "no number": float("nan"), "much": float("-inf"),
        "texts": ["a", "b"], "raw": b"\x00",
    }  # fmt: skip
    tracer.start_span("work", attributes=given).end()
    (span,) = read(tmp_path / "spans.jsonl")
    assert {one["key"]: one["value"] for one in span["attributes"]} == {
        "text": {"stringValue": "é \ud800"},
        "yes": {"boolValue": True},
        "many": {"intValue": str(2**60)},
        "some": {"doubleValue": 0.5},
        "no number": {"doubleValue": "NaN"},
        "much": {"doubleValue": "-Infinity"},
        "texts": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}},
        "raw": {"bytesValue": "AA=="},
    }


def test_kind_status_events_and_links_are_kept(tmp_path: Path) -> None:
    _, tracer = written(tmp_path / "spans.jsonl")
    first = tracer.start_span("first")
    span = tracer.start_span("second", kind=SpanKind.CLIENT, links=[Link(first.get_span_context(), {"why": "so"})])
    span.add_event("exception", {"exception.type": "KeyError"})
    span.set_status(Status(StatusCode.ERROR, "it broke"))
    span.end()
    (told,) = read(tmp_path / "spans.jsonl")
    assert (told["kind"], told["status"]) == (3, {"code": 2, "message": "it broke"})
    assert told["events"][0]["name"] == "exception" and told["events"][0]["attributes"][0]["key"] == "exception.type"
    assert told["links"][0]["spanId"] == f"{first.get_span_context().span_id:016x}"
    assert "parentSpanId" not in told


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    _, tracer = written(tmp_path / "spans.jsonl")

    def work() -> None:
        for number in range(50):
            tracer.start_span(f"work {number}", attributes={"text": "x" * 20_000}).end()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(tmp_path / "spans.jsonl")) == 200


def test_what_was_written_is_there_although_nobody_ends_it(tmp_path: Path) -> None:
    provider, tracer = written(tmp_path / "spans.jsonl")
    tracer.start_span("work").end()
    assert [span["name"] for span in read(tmp_path / "spans.jsonl")] == ["work"]
    provider.shutdown()


def test_protobuf_reads_it(tmp_path: Path) -> None:
    """The reader that collectors are made from; in JSON alone OTLP writes ids in hexadecimal, and not in base64."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    traces = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2")
    _, tracer = written(tmp_path / "spans.jsonl")
    with tracer.start_as_current_span("outer"):
        tracer.start_span("inner", attributes={"a": 1, "b": [0.5], "c": "x", "d": b"y"}).end()
    for line in (tmp_path / "spans.jsonl").read_text(encoding="utf-8").splitlines():
        given = json.loads(line)
        (span,) = given["resourceSpans"][0]["scopeSpans"][0]["spans"]
        for name in {"traceId", "spanId", "parentSpanId"} & set(span):
            span.pop(name)
        assert json_format.ParseDict(given, traces.TracesData()).resource_spans[0].scope_spans[0].spans[0].name
