"""A span: a piece of work, told to OpenTelemetry where a tracer provider is set. Where none is, nothing happens.

Who has set a provider has imported OpenTelemetry, so nothing of it is imported here before.

Text comes from games, models and people: it is cleaned and bounded. What was seen, done, thought and asked is told only
where `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` asks for it; so is what an error says, which may quote it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import metadata
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from environments.worker import format_error
from memory.text import clean

NAME_LIMIT = 300
"""Characters of what names something."""

TEXT_LIMIT = 8000
"""Characters of what was said, at most; a longer text loses its middle."""

MOST = 100
"""Members of a list."""

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURED = ("true", "span_only", "span_and_event")

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Span:
    """A piece of work, open as a context manager. This one is told to nobody."""

    @property
    def content(self) -> bool:
        """Whether it may tell what was said."""
        return False

    def note(self, attributes: Mapping[str, object]) -> None:
        """Note attributes: those with a dot in their name as they are, others as our own; None is left out."""

    def tell(self, name: str, said: object) -> None:
        """Note what was said, where that may be told: a text, or lists and mappings of texts, which become JSON."""

    def fail(self, kind: str, why: str = "") -> None:
        """Note that the work failed, and of what kind that was."""

    def inside(self) -> AbstractContextManager[None]:
        """While open, spans of this thread belong to this one: for who works for it in another thread."""
        return nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The work has ended."""


OFF = Span()


class _Recorded(Span):
    """One that is told."""

    def __init__(self, span: Any) -> None:
        self._span = span
        self._open: AbstractContextManager[None] = nullcontext()

    @property
    def content(self) -> bool:
        return self._span.is_recording() and os.environ.get(CAPTURE, "").strip().lower() in _CAPTURED

    def note(self, attributes: Mapping[str, object]) -> None:
        self._span.set_attributes(_attributes(attributes))

    def tell(self, name: str, said: object) -> None:
        if said and self.content:
            told = _shortened(said)
            text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
            self._span.set_attribute(_named(name), text)

    def fail(self, kind: str, why: str = "") -> None:
        from opentelemetry.trace import Status, StatusCode

        self.note({"error.type": kind})
        self._span.set_status(Status(StatusCode.ERROR, clean(why, NAME_LIMIT) if self.content else None))

    def inside(self) -> AbstractContextManager[None]:
        from opentelemetry.trace import set_span_in_context

        return _Inside(set_span_in_context(self._span))

    def __enter__(self) -> Self:
        self._open = self.inside()
        self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(None, None, None)
        if error is not None:
            self.fail(type(error).__name__, format_error(error))
        self._span.end()


class _Inside(AbstractContextManager[None]):
    """A context of OpenTelemetry, in this thread."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> None:
        from opentelemetry import context

        self._token = context.attach(self._context)

    def __exit__(self, *raised: object) -> None:
        from opentelemetry import context

        context.detach(self._token)


_known: tuple[object, Any] = (None, None)
"""The provider that was seen last, and our tracer of it; None where it listens to nobody."""


def _tracer() -> Any:
    """Our tracer, by the provider that is set; None where none is."""
    global _known
    ask = getattr(sys.modules.get("opentelemetry.trace"), "get_tracer_provider", None)
    if ask is None:
        return None
    provider, known = ask(), _known
    if known[0] is not provider:
        api = sys.modules["opentelemetry.trace"]
        deaf = isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider))
        version = ""
        with suppress(metadata.PackageNotFoundError):  # a copy of the sources need not be installed
            version = metadata.version("agentlab")
        _known = known = (provider, None if deaf else provider.get_tracer("agentlab", version))
    return known[1]


def on() -> bool:
    """Whether anybody listens. What takes time to tell is only found out where somebody does."""
    return _tracer() is not None


def span(name: str, attributes: Mapping[str, object] | None = None, *, client: bool = False) -> Span:
    """A piece of work that begins now, within that which is open in this thread; `client` if another process does it.

    `attributes` as of `Span.note`.
    """
    tracer = _tracer()
    if tracer is None:
        return OFF
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
    return _Recorded(tracer.start_span(clean(name, NAME_LIMIT), kind=kind, attributes=_attributes(attributes or {})))


def workflow(name: str, attributes: Mapping[str, object]) -> Span:
    """A span of work that agents do some part of, such as a run."""
    kind = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": name}
    return span(f"invoke_workflow {name}", {**kind, **attributes})


def carried(work: Callable[Given, Result]) -> Callable[Given, Result]:
    """`work` as another thread may do it: its spans belong to the one that is open here."""
    if not on():
        return work
    from opentelemetry import context

    here = context.get_current()

    def moved(*args: Given.args, **settings: Given.kwargs) -> Result:
        with _Inside(here):
            return work(*args, **settings)

    return moved


def told() -> dict[str, str]:
    """The span that is open here, as another process is told of it (W3C Trace Context); empty where nobody listens."""
    here: dict[str, str] = {}
    if on():
        from opentelemetry.propagate import inject

        inject(here)
    return here


def within(elsewhere: Mapping[str, str]) -> AbstractContextManager[None]:
    """While open, spans of this thread belong to the one of another process that was told of."""
    if not elsewhere or not on():
        return nullcontext()
    from opentelemetry.propagate import extract

    return _Inside(extract(elsewhere))


def message(role: str, text: str) -> list[dict[str, object]]:
    """A text as the conventions have the messages of a chat."""
    end = {"finish_reason": "stop"} if role == "assistant" else {}
    return [{"role": role, "parts": [{"type": "text", "content": text}], **end}]


def _shortened(said: object) -> object:
    """Texts cleaned; of a long one its beginning and its end, which says what was to be done."""
    if isinstance(said, Mapping):
        return {name: _shortened(value) for name, value in said.items()}
    if isinstance(said, Sequence) and not isinstance(said, str):
        return [_shortened(one) for one in said[:MOST]]
    text = str(said)
    if len(text) > TEXT_LIMIT:
        first = TEXT_LIMIT // 3
        text = f"{text[:first]}\n[… {len(text) - TEXT_LIMIT:,} characters left out …]\n{text[first - TEXT_LIMIT :]}"
    return clean(text, 2 * TEXT_LIMIT)


def _named(name: str) -> str:
    return name if "." in name else f"agentlab.{name}"


def _attributes(given: Mapping[str, object]) -> dict[str, Any]:
    return {_named(name): _value(value) for name, value in given.items() if value is not None}


def _value(value: object) -> object:
    """What OpenTelemetry takes: numbers, and text that is short and clean."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [clean(str(one), NAME_LIMIT) for one in value[:MOST]]
    return clean(str(value), NAME_LIMIT)
