"""Where spans go: to a collector, onto the screen or into a file. Begun once in a program, and flushed at its end.

A program that has set a tracer provider of its own gets them there, and nothing here is done.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.errors import BadConfig, MissingPackage
from agentlab.terminal import note, one_line

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

VARIABLE = "AGENTLAB_TRACE"
EXTRA = "pip install 'agentlab[otel]'"

PATIENCE, BRIEFLY = 5.0, 1.0
"""Seconds in which the last spans must have been sent, and where it is known that they cannot be."""

_EXPORTERS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
"""By the protocol that is asked for, under what name a package offers its exporter."""


def begin(where: str | None = None) -> None:
    """Have spans go `where` it is said, or AGENTLAB_TRACE says. Empty, or begun already: nothing is done.

    `otlp`: to the collector that OTEL_EXPORTER_OTLP_ENDPOINT and its like name; `console`: stderr; or a file `….jsonl`.

    Raises BadConfig for another value or one that cannot be used, MissingPackage where OpenTelemetry is not installed.
    """
    global _begun
    where = os.environ.get(VARIABLE, "") if where is None else where
    if not where or _begun is not None:
        return
    if where not in ("otlp", "console") and not where.endswith(".jsonl"):
        raise BadConfig(
            f"Spans can go to 'otlp', to 'console' or into a file that ends in .jsonl, and {VARIABLE} (--trace) is "
            f"'{one_line(where, 60)}'; name one of these."
        )
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise MissingPackage(f"{VARIABLE} (--trace) needs a package that is not installed; install it: {EXTRA}")
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        note(f"This program has a tracer provider of its own, so spans go there and not to {one_line(where, 60)}.")
        return
    _begun = _Destination(where)


def end() -> None:
    """Send what was not sent yet, and wait for that a few seconds at most. Nothing is told afterwards."""
    if _begun is not None:
        _begun.end()


def goes_to() -> str:
    """Where spans go, as `begin` was told; empty where it was not."""
    return _begun.where if _begun is not None else ""


_begun: _Destination | None = None


class _Destination:
    """Where the spans of this program go, from now on."""

    def __init__(self, where: str) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        self.where = where
        try:
            provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            provider.add_span_processor(_processor(where))
        except OSError as error:
            raise BadConfig(
                f"Spans cannot be written to {one_line(where, 200)} ({error.strerror}); name a file in a folder where "
                "you may write."
            ) from error
        except ValueError as error:
            what = one_line(str(error), 200)
            raise BadConfig(f"Spans cannot be sent as the variables OTEL_… say ({what}); correct them.") from error
        self.complaint, logger = _FirstComplaint(), logging.getLogger("opentelemetry")
        logger.addHandler(self.complaint)
        logger.propagate = False
        self._ended = threading.Event()
        # Begun now: at the end of a program no thread can be started.
        self._ending = threading.Thread(target=self._end, args=(provider,), daemon=True, name="tracing ends")
        self._ending.start()
        trace.set_tracer_provider(provider)
        atexit.register(self.end)

    def _end(self, provider: TracerProvider) -> None:
        self._ended.wait()
        provider.shutdown()

    def end(self) -> None:
        """Send the rest."""
        atexit.unregister(self.end)
        self._ended.set()
        self._ending.join(BRIEFLY)
        if not self.complaint.said.is_set():
            self._ending.join(PATIENCE - BRIEFLY)
            if self._ending.is_alive():
                note(f"The last spans were not taken within {PATIENCE:.0f} s, and may be lost.")
        self.complaint.said.set()


class _FirstComplaint(logging.Handler):
    """Says in one line what OpenTelemetry complains of first: of a collector that is down it complains for ever."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.said.is_set():
            self.said.set()
            what = record.exc_info[1] if record.exc_info else record.getMessage()
            note(f"Spans may be lost ({one_line(str(what), 300)}); nothing else is, and this is said once.")


def _processor(where: str) -> SpanProcessor:
    """What is done with each span that has ended."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    if where == "otlp":
        named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = _EXPORTERS.get(named or "http/protobuf")
        if name is None:
            raise ValueError(f"the protocol is {named}, and not one of {', '.join(_EXPORTERS)}")
        found = next(iter(metadata.entry_points(group="opentelemetry_traces_exporter", name=name)), None)
        if found is None:
            package = f"opentelemetry-exporter-{name.replace('_', '-')}"
            install = EXTRA if name == "otlp_proto_http" else f"pip install {package}"
            raise MissingPackage(f"{VARIABLE}=otlp needs {package}, which is not installed; install it: {install}")
        return BatchSpanProcessor(found.load()())
    if where == "console":
        return SimpleSpanProcessor(
            ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(None)}\n")
        )
    from agentlab.tracing.lines import Lines

    return SimpleSpanProcessor(Lines(Path(where).expanduser()))


def _resource() -> Resource:
    """Who tells: `agentlab`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another name."""
    from opentelemetry.sdk.resources import Resource

    given = Resource.create()
    named = str(given.attributes.get("service.name", "unknown_service"))
    return given.merge(Resource({"service.name": "agentlab"})) if named.startswith("unknown_service") else given
