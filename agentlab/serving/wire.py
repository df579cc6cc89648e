"""OpenAI's protocol for chats: what a request may ask, and the objects that answer it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentlab.serving.refused import Refused
from agentlab.terminal import one_line
from memory.prompts import Message
from memory.records import NO_USAGE, Usage
from memory.text import parsed

LARGEST = 1_000_000
"""Bytes of a request."""
MESSAGES, STOPS = 1000, 4
"""How many messages a chat may have, and how many texts end an answer."""
DEFAULT = "default"
"""The model of a request that means whatever serves."""

# What may be said of these is what is done anyhow: anything else would be promised and not kept.
_FIXED: dict[str, list[Any]] = {
    "n": [1],
    "top_p": [1],
    "frequency_penalty": [0],
    "presence_penalty": [0],
    "logit_bias": [{}],
    "logprobs": [False],
    "top_logprobs": [0],
    "response_format": [{"type": "text"}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "modalities": [["text"]],
    "audio": [],
    "prediction": [],
    "web_search_options": [],
}
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part] | None = None

    @property
    def message(self) -> Message:
        if self.content is None or isinstance(self.content, str):
            return Message(_ROLES[self.role], self.content or "")
        return Message(_ROLES[self.role], "\n".join(part.text for part in self.content))


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool = False


class Asked(BaseModel):
    """A request for the next message of a chat. What it says beside this is taken note of by nobody."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str = Field(DEFAULT, max_length=200)
    messages: list[_Message] = Field(min_length=1, max_length=MESSAGES)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None

    @property
    def chat(self) -> list[Message]:
        """Its messages; the last one is of the user."""
        return [one.message for one in self.messages]

    @property
    def stops(self) -> list[str]:
        """The texts that end the answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [one for one in given if one]

    @property
    def most(self) -> int | None:
        """The tokens of the answer, at most."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage


def read(body: bytes) -> Asked:
    """The request in a body. Raises Refused: 400 for what is no JSON or cannot be done here, 422 for a wrong type."""
    try:
        said = parsed(body)
        json.dumps(said, ensure_ascii=False).encode()  # halves of characters, which no model or database takes
    except UnicodeEncodeError as error:
        raise Refused(400, "The body has halves of characters in it.", code="invalid_json") from error
    except ValueError as error:
        raise Refused(400, f"The body cannot be read: {error}.", code="invalid_json") from error
    if not isinstance(said, Mapping):
        raise Refused(400, "The body is no JSON object.", code="invalid_json")
    for name, allowed in _FIXED.items():
        if said.get(name) is not None and said[name] not in allowed:
            raise Refused(400, f"`{name}` is not supported; leave it out.", code="unsupported_parameter", param=name)
    try:
        asked = Asked.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = one_line(".".join(map(str, first["loc"])), 80)
        raise Refused(422, f"{where}: {one_line(first['msg'], 200)}.", code="invalid_value", param=where) from error
    if asked.messages[-1].role != "user":
        line = "The last message is not of the user; end with the one that is to be answered."
        raise Refused(422, line, code="invalid_value", param="messages")
    if len(asked.stops) > STOPS:
        raise Refused(422, f"At most {STOPS} texts can end an answer.", code="invalid_value", param="stop")
    return asked


@dataclass(frozen=True)
class Answered:
    """An answer: its text, who gave it, why it ended, what it took; what was recalled for it and noted after it, by
    ids, and what was to be noted and could not be."""

    text: str
    model: str
    ended: Literal["stop", "length"] = "stop"
    usage: Usage = NO_USAGE
    recalled: Sequence[str] = ()
    noted: Sequence[str] = ()
    not_noted: str = ""

    @property
    def memory(self) -> dict[str, Any]:
        """What the memory had to do with it; no part of OpenAI's protocol, whose clients let it be."""
        told: dict[str, Any] = {"recalled": list(self.recalled), "noted": list(self.noted)}
        return {**told, "not_noted": self.not_noted} if self.not_noted else told

    @property
    def tokens(self) -> dict[str, int]:
        """What it took, by the protocol's names."""
        read, wrote = self.usage.input_tokens, self.usage.output_tokens
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


@dataclass(frozen=True)
class Head:
    """What all objects of one answer begin with."""

    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answered: Answered) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": answered.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answered.ended}
        return {
            **self._begin("chat.completion", answered.model),
            "choices": [choice],
            "usage": answered.tokens,
            "agentlab": answered.memory,
        }

    def piece(self, model: str, text: str, *, first: bool) -> dict[str, Any]:
        """The next piece of its text."""
        return self._chunk(model, {"role": "assistant", "content": text} if first else {"content": text}, None)

    def last(self, answered: Answered) -> dict[str, Any]:
        """What ends the pieces."""
        return self._chunk(answered.model, {}, answered.ended) | {"agentlab": answered.memory}

    def taken(self, answered: Answered) -> dict[str, Any]:
        """What it took, behind the pieces, for who has asked for that."""
        return {**self._begin("chat.completion.chunk", answered.model), "choices": [], "usage": answered.tokens}

    def _chunk(self, model: str, delta: dict[str, Any], ended: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ended}
        return {**self._begin("chat.completion.chunk", model), "choices": [choice]}

    def _begin(self, kind: str, model: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": model}
