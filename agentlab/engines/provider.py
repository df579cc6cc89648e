"""A chat model behind an API, by LangChain: asked until it answers, within a time limit.

What is over in a moment (rate limits, a server's errors, a connection that breaks, an answer that is none) is tried
again, after pauses that double, with jitter. What stays as it is (a key, a model's name, an account) ends the run.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from agentlab.engines.waiting import Waiters, paused, waited
from agentlab.errors import (
    AgentLabError,
    ApiRefused,
    ContextExceeded,
    EngineFailed,
    MissingPackage,
    Unacceptable,
    UnknownModel,
)
from memory.prompts import Message, one_line
from memory.records import Usage

PATIENCE = 240.0
"""Seconds in which an answer must have come, all tries together; one try has at most half of them."""

PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the second try, and at most before a later one, where the server asks for nothing else."""

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
EXTRAS = {"openai": "langchain_openai", "anthropic": "langchain_anthropic", "ollama": "langchain_ollama"}
"""The extras of this package, and what they install for LangChain."""

# What LangChain's chat models call the same thing.
_NAMES = {"temperature": ("temperature",), "seed": ("seed",), "max_tokens": ("max_tokens", "num_predict")}
_REFUSED = (401, 402, 403, 404)
_UNACCEPTABLE = (400, 405, 413, 415, 422)
_TOO_LONG = re.compile(r"context.?(length|window)|maximum context|too (long|many.*tokens)", re.IGNORECASE)
_SECRET = re.compile(r"\b(sk|pk|key|lsv2)[-_][\w-]{6,}|(?<=Bearer )\S+")


@dataclass(frozen=True)
class Price:
    """What a million tokens cost, in US dollars; 0 is not known."""

    input: float = 0.0
    output: float = 0.0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """The cost of so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True)
class Answer:
    """What came back: its text, its fields where it was asked by a schema, whether a limit cut it off, what it took."""

    text: str
    fields: Mapping[str, Any]
    cut: bool
    usage: Usage


class Provider:
    """The API of one model, `provider:model` as LangChain's `init_chat_model` takes it, perhaps on a `server` (a URL).

    Raises UnknownModel for a name without a provider, MissingPackage if LangChain's package for it is not here,
    ApiRefused if there is no key.
    """

    def __init__(self, name: str, *, server: str = "", price: Price | None = None, patience: float = PATIENCE) -> None:
        self.name = name
        self.provider = name.partition(":")[0]
        self.price = price or Price()
        self.patience = patience
        self.client = _client(name, server, patience / 2)
        self._without: set[str] = set()
        """Settings that the model does not take."""
        self._waiters = Waiters()

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, **settings: float) -> Answer:
        """The answer to some messages; with a JSON `schema` the model is held to it, as far as its API can do that.

        `settings` are max_tokens, temperature and seed; a model that does not take one of them goes without it.

        Raises:
            Unacceptable: if the server does not take that; ContextExceeded if it is too long.
            ApiRefused: if it takes no request of ours.
            EngineFailed: if no answer came within the time limit.
        """
        began = time.monotonic()
        given_up = self._waiters.given_up
        while True:
            try:
                answer = self._patiently(lambda: self._once(messages, schema, settings), given_up)
            except Unacceptable as error:
                # A model that reasons takes no temperature, an API perhaps no seed.
                named = [one for one in ("temperature", "seed") if one in str(error) and one not in self._without]
                if not named:
                    raise
                self._without |= {*named}
                continue
            return replace(answer, usage=answer.usage + Usage(seconds=round(time.monotonic() - began, 3)))

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for an answer gets `error` now. Who asks afterwards is answered again."""
        self._waiters.give_up(error)

    # -- one call ----------------------------------------------------------------------------------------------------

    def _once(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, settings: Mapping[str, Any]
    ) -> Answer:
        known = type(self.client).model_fields
        changes = {
            field: settings[name]
            for name, fields in _NAMES.items()
            for field in fields
            if field in known and name in settings and name not in self._without
            # At temperature 0 nothing is drawn, and not every server takes a seed.
            if name != "seed" or settings.get("temperature")
        }
        model: Any = self.client.model_copy(update=changes)
        said = [(message.role, message.text) for message in messages]
        try:
            found = {"raw": model.invoke(said)} if schema is None else _held(model, schema).invoke(said)
        except Exception as error:
            # OpenAI's client raises what ended before its JSON did; there was an answer, and it is paid for.
            if (whole := getattr(error, "completion", None)) is None:
                raise
            said, used = whole.choices[0], whole.usage
            return Answer(
                said.message.content or "",
                {},
                said.finish_reason == "length",
                self._usage(used.prompt_tokens, used.completion_tokens) if used else Usage(),
            )
        raw, fields = found["raw"], found.get("parsed")
        about, used = raw.response_metadata, raw.usage_metadata or {}
        ended = about.get("finish_reason") or about.get("stop_reason") or about.get("done_reason")
        return Answer(
            str(raw.text) or str(raw.additional_kwargs.get("refusal") or ""),
            fields if isinstance(fields, Mapping) else {},
            ended in ("length", "max_tokens"),
            self._usage(used.get("input_tokens") or 0, used.get("output_tokens") or 0),
        )

    def _usage(self, read: int, wrote: int) -> Usage:
        return Usage(input_tokens=read, output_tokens=wrote, cost=self.price.of(read, wrote))

    # -- trying again ------------------------------------------------------------------------------------------------

    def _patiently(self, call: Callable[[], Answer], given_up: Future[None]) -> Answer:
        until, pause = time.monotonic() + self.patience, PAUSE
        while True:
            try:
                return waited(call, given_up, min(self.patience / 2, until - time.monotonic()))
            except AgentLabError:
                raise
            except Exception as error:  # whatever LangChain and the client of a provider raise
                asked = self._judge(error)
                longer = pause * random.uniform(0.5, 1) if asked is None else asked
                if time.monotonic() + longer >= until:
                    wants = f", and it asks to wait {asked:.0f} s" if asked else ""
                    raise EngineFailed(
                        f"{self.name} gave no answer within {self.patience:.0f} s{wants}: {_words(error)}; the same "
                        "command tries again."
                    ) from error
                pause = min(2 * pause, LONGEST_PAUSE)
                paused(given_up, longer)

    def _judge(self, error: Exception) -> float | None:
        """The seconds after which a failed try may succeed, where the server says so.

        Raises what ends the trying: ApiRefused, Unacceptable, ContextExceeded.
        """
        response = getattr(error, "response", None)
        status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
        if status in _REFUSED or (status == 429 and "insufficient_quota" in str(error)):
            raise ApiRefused(
                f"{self.name} is refused ({status}): {_words(error)}; check the model's name, the server and "
                f"{KEYS.get(self.provider, 'the key')}."
            ) from error
        if status in _UNACCEPTABLE:
            kind = ContextExceeded if status == 413 or _TOO_LONG.search(str(error)) else Unacceptable
            raise kind(f"{self.name} does not take a request ({status}): {_words(error)}.") from error
        headers = getattr(response, "headers", None) or {}
        with suppress(LookupError, ValueError, TypeError):
            return max(0.0, float(headers["retry-after"]))
        return None


def _words(error: BaseException) -> str:
    """What was said, in a line, without secrets."""
    said = one_line(str(error)) or type(error).__name__
    for name, value in os.environ.items():
        if len(value) >= 8 and name.endswith(("_KEY", "_TOKEN", "_SECRET")):
            said = said.replace(value, "…")
    return _SECRET.sub("…", said)[:300].rstrip(" .")


def _held(model: Any, schema: Mapping[str, Any]) -> Any:
    """The model held to a schema, so that it gives the message too.

    Raises Unacceptable for one of LangChain's that can be held to none: it binds no tools, nor has a way of its own.
    """
    from langchain_core.language_models import BaseChatModel

    own = ("bind_tools", "with_structured_output")
    if all(getattr(type(model), name) is getattr(BaseChatModel, name) for name in own):
        raise Unacceptable("This model cannot be held to a schema.")
    strict = {"strict": True} if "strict" in signature(model.with_structured_output).parameters else {}
    return model.with_structured_output(dict(schema), include_raw=True, **strict)


def _client(name: str, server: str, timeout: float) -> Any:
    """LangChain's chat model of that name."""
    provider, colon, model = name.partition(":")
    if not (colon and model):
        raise UnknownModel(
            f"{name!r} names no provider; with --engine chat give --model PROVIDER:MODEL, such as openai:NAME, "
            "anthropic:NAME or ollama:NAME."
        )
    needed = EXTRAS.get(provider)
    if find_spec("langchain") is None or (needed is not None and find_spec(needed) is None):
        extra = f"agentlab[{provider}]" if needed else "langchain>=1,<2"
        raise MissingPackage(
            f"--model {name} needs packages that are not installed; install them: pip install '{extra}'"
        )
    if server and provider == "openai" and urlsplit(server).path in ("", "/"):
        server = f"{server.rstrip('/')}/v1"  # where every server that is compatible has it
    settings: dict[str, Any] = {"base_url": server} if server else {}
    if provider == "ollama":
        settings["client_kwargs"] = {"timeout": timeout}
    else:
        settings |= {"timeout": timeout, "max_retries": 0}  # whoever retries twice waits for ever
    if (key := KEYS.get(provider)) and not os.environ.get(key):
        if not server:
            raise ApiRefused(f"There is no key for {name}; set {key}, or give a --server that needs none.")
        settings["api_key"] = "none"
    from langchain.chat_models import init_chat_model

    try:
        return init_chat_model(model, model_provider=provider, **settings)
    except ImportError as error:
        raise MissingPackage(f"--model {name} needs a package that is not installed: {_words(error)}.") from error
    except Exception as error:
        raise UnknownModel(f"LangChain knows no model {name!r}: {_words(error)}.") from error
