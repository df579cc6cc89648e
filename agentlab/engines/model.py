"""An engine and the adapter that it is asked of: what everything beside the engines holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentlab.engines import spans
from agentlab.engines.base import (
    TRANSCRIPT,
    Adapter,
    Adapting,
    Aside,
    Batching,
    Conversation,
    Conversing,
    Engine,
    Scorer,
    ScoreRequest,
    Scores,
    Turn,
    TurnRequest,
    TurnWriter,
    Writer,
    WriteRequest,
    Writing,
)
from agentlab.engines.batching import answered
from agentlab.engines.metering import count
from agentlab.errors import AgentLabError
from memory.prompts import Prompting

Request = TypeVar("Request", ScoreRequest, TurnRequest, WriteRequest)
Answer = TypeVar("Answer", Scores, Turn, Writing)


@dataclass(frozen=True)
class Model:
    """An engine with the adapter that it is asked of (None: the base): neither changes, whoever else asks the engine.

    Raises what `Adapting.load` does when it is made, AgentLabError if the engine takes no adapters.
    """

    engine: Engine
    adapter: Adapter | None = None

    def __post_init__(self) -> None:
        if self.adapter is None:
            return
        if not isinstance(self.engine, Adapting):
            raise AgentLabError(
                f"The engine {self.engine.name} takes no adapters, so {self.adapter.id} cannot play; choose the arm "
                "'base', or an engine that has a method `load` for them."
            )
        self.engine.load(self.adapter)

    @property
    def name(self) -> str:
        """That of the engine's weights."""
        return self.engine.name

    @property
    def adapter_id(self) -> str | None:
        """The id of the adapter; None is the base."""
        return self.adapter.id if self.adapter is not None else None

    def with_adapter(self, adapter: Adapter) -> Model:
        """The same engine, asked of another adapter."""
        return Model(self.engine, adapter)

    def conversation(self, goal: str, hints: str = "", prompting: Prompting | None = None) -> Conversation:
        """Start one episode, as `Conversing.conversation` does. Raises EngineFailed if the engine cannot read it."""
        if not isinstance(self.engine, Conversing):
            return Conversation(goal, hints, replace(prompting or TRANSCRIPT, chat=False))
        # Engines of one's own may know of no other prompting than their own.
        return self.engine.conversation(goal, hints, prompting) if prompting else self.engine.conversation(goal, hints)

    def score(
        self,
        conversation: Conversation,
        commands: Sequence[str],
        asides: Sequence[Aside | None] = (),
        bonus: Sequence[float] = (),
    ) -> Scores:
        """The scores of some commands, a finite number for each; with `asides` and `bonus` as of a `ScoreRequest`.

        Raises AgentLabError if the engine ranks nothing, ValueError if it gave something else than asked for.
        """
        request = ScoreRequest(conversation, commands, self.adapter, asides, bonus)
        return self._scored([self._ask(self._scorer.score, request)], [request])[0]

    def score_all(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """The scores of several requests, each by the adapter that it carries, read beside each other; as `score`."""
        with spans.model_call(self.engine, requests) as span:
            found = self._scored(answered(self._scorer.score, requests), requests)
            spans.answered(span, requests, found)
        return found

    @property
    def _scorer(self) -> Scorer:
        if not isinstance(self.engine, Scorer):
            raise AgentLabError(
                f"The engine {self.name} ranks no commands, it only writes; play with an actor that has it write."
            )
        return self.engine

    def _scored(self, found: Sequence[Scores], requests: Sequence[ScoreRequest]) -> list[Scores]:
        for scores, request in zip(found, requests, strict=True):
            many = len(request.commands)
            known = [score for score in scores.logprobs if score != -math.inf or not request.bonus]
            if len(scores.logprobs) != many or not all(map(math.isfinite, known)) or (many and not known):
                raise ValueError(f"{len(scores.logprobs)} scores for {many} commands, which need a number each")
            count(scores.usage)
        return list(found)

    def write_turn(self, request: TurnRequest) -> Turn:
        """The next turn of a conversation, by this adapter. Raises AgentLabError if the engine writes no turns."""
        if not isinstance(self.engine, TurnWriter):
            raise AgentLabError(f"The engine {self.name} writes no turns; play with an actor that ranks commands.")
        turn = self._ask(self.engine.write_turns, replace(request, adapter=self.adapter))
        count(turn.usage)
        return turn

    @property
    def writes(self) -> bool:
        """Whether `write` can be asked for."""
        return isinstance(self.engine, Writer)

    def write(
        self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.0, seed: int = 0, **chat: Any
    ) -> Writing:
        """An answer to `prompt`, as of a `WriteRequest`, of which `chat` are the other fields.

        Raises AgentLabError if the engine writes nothing.
        """
        if not isinstance(self.engine, Writer):
            raise AgentLabError(f"The engine {self.name} writes no text, it only ranks commands; ask another one.")
        request = WriteRequest(prompt, self.adapter, max_tokens, temperature, seed, **chat)
        writing = self._ask(self.engine.write, request)
        count(writing.usage)
        return writing

    def write_all(self, requests: Sequence[WriteRequest]) -> list[Writing]:
        """The writings of several requests, each by the adapter that it carries, written beside each other; as `write`.

        They go to the engine together and with no others, so that the same list is always answered alike.
        """
        if not isinstance(self.engine, Writer):
            raise AgentLabError(f"The engine {self.name} writes no text, it only ranks commands; ask another one.")
        with spans.model_call(self.engine, requests) as span:
            found = list(answered(self.engine.write, requests))
            spans.answered(span, requests, found)
        for writing in found:
            count(writing.usage)
        return found

    def episode(self) -> AbstractContextManager[None]:
        """While open, one more episode plays with this engine, and its requests go with those of the others."""
        return self.engine.batcher.episode() if isinstance(self.engine, Batching) else nullcontext()

    def _ask(self, ask: Callable[[Sequence[Request]], Sequence[Answer]], request: Request) -> Answer:
        """The answer of the engine to one request."""
        with spans.model_call(self.engine, [request]) as span:
            if isinstance(self.engine, Batching):
                answer = self.engine.batcher(ask, request)
            else:
                answer = answered(ask, [request])[0]
            spans.answered(span, [request], [answer])
        return answer
