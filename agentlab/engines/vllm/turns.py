"""Turns written on a server: a thought within its budget, then a command, held to the admissible ones by their tokens.

The command is a walk down the trie of the admissible commands' tokens: at each branch the server gives the
log-probabilities of the ways on, and one is taken here. So it is drawn as a local engine draws it, in the tokens in
which commands are scored and trained, with log-probabilities among all tokens. A grammar on the server would be one
request less, and would know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch

from agentlab.engines.base import Adapter, Turn, TurnRequest
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.vllm.conversation import ServedConversation
from agentlab.engines.vllm.scoring import Node
from memory import prompts
from memory.records import Usage


@dataclass(frozen=True)
class Line:
    """What is to be written freely behind a text: at most so many tokens, up to one that ends it or the line's end."""

    token_ids: Sequence[int]
    most: int
    ends: frozenset[int]
    temperature: float
    seed: int
    adapter: Adapter | None


Lines = Callable[[Sequence[Line]], Sequence[tuple[list[int], list[float]]]]
"""Writes some lines at once: the tokens of each without what ended it, and their log-probabilities."""

Distributions = Callable[[Sequence[Node]], Sequence[dict[int, float]]]
"""The log-probabilities at some nodes, asked for at once."""


@dataclass
class Draft:
    """A turn as it is written behind `begun`, of which so many tokens are `new` to the server."""

    request: TurnRequest
    begun: list[int]
    ends: frozenset[int]
    tokenizer: Any
    new: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    thought: str = ""
    command: str | None = None

    @classmethod
    def of(cls, request: TurnRequest, tokenizer: Any, ends: Collection[int]) -> Draft:
        """An empty one, in a conversation that has room for it. Raises ContextExceeded if it has none."""
        conversation = request.conversation
        assert isinstance(conversation, ServedConversation), "made by `conversation`"
        extra = conversation.room_for_turn(request)
        begun = [*conversation.context_ids, *extra]
        return cls(request, begun, frozenset({*conversation.end, *ends}), tokenizer, conversation.read(begun))

    @property
    def conversation(self) -> TokenConversation:
        """That which it continues."""
        assert isinstance(self.request.conversation, TokenConversation)
        return self.request.conversation

    def line(self, most: int) -> Line:
        """What is asked for to go on freely."""
        request = self.request
        here = [*self.begun, *self.token_ids]
        return Line(here, most, self.ends, request.temperature, request.seed, request.adapter)

    def force(self, tokens: Sequence[int]) -> None:
        """Go on with tokens of which there is no choice."""
        self.token_ids += tokens
        self.logprobs += [0.0] * len(tokens)

    def take(self, written: tuple[list[int], list[float]]) -> str:
        """Go on with what was written freely; its text."""
        tokens, logprobs = written
        self.token_ids += tokens
        self.logprobs += logprobs
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def turn(self) -> Turn:
        """The turn, when its command is there."""
        text = str(self.tokenizer.decode(self.token_ids, skip_special_tokens=True))
        usage = Usage(input_tokens=self.new, output_tokens=len(self.token_ids))
        command = prompts.one_line(self.command or "")
        return Turn(text, command, self.thought, self.token_ids, self.logprobs, usage)


class Walk:
    """A draft on its way down the trie of its commands."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        conversation = draft.conversation
        self.commands = {tuple(conversation.command_tokens(one)): one for one in draft.request.commands or ()}
        self.done: tuple[int, ...] = ()
        self.drawn = torch.Generator().manual_seed(draft.request.seed)

    @property
    def ended(self) -> bool:
        """Whether a command is reached."""
        return self.done in self.commands

    def ahead(self) -> list[Node]:
        """The nodes from here to the next branch or the end, which can be asked about at once."""
        draft, path, nodes = self.draft, self.done, []
        while path not in self.commands:
            children = self._children(path)
            nodes.append(
                Node([*draft.begun, *draft.token_ids, *path[len(self.done) :]], children, draft.request.adapter)
            )
            if len(children) > 1:
                break
            path = (*path, *children)
        return nodes

    def go(self, distributions: Sequence[dict[int, float]]) -> None:
        """Take a token at each of these nodes."""
        for logprobs in distributions:
            among = sorted(logprobs)
            token, temperature = among[0], self.draft.request.temperature
            if temperature > 0:
                shares = torch.softmax(torch.tensor([logprobs[one] for one in among]) / temperature, dim=-1)
                token = among[int(torch.multinomial(shares, 1, generator=self.drawn))]
            else:
                token = max(among, key=lambda one: logprobs[one])
            self.done = (*self.done, token)
            self.draft.token_ids.append(token)
            self.draft.logprobs.append(logprobs[token])
        if self.ended:
            self.draft.command = self.commands[self.done]

    def _children(self, path: tuple[int, ...]) -> frozenset[int]:
        here = len(path)
        return frozenset(tokens[here] for tokens in self.commands if tokens[:here] == path and len(tokens) > here)


def write_turns(
    requests: Sequence[TurnRequest],
    tokenizer: Any,
    ends: Collection[int],
    lines: Lines,
    distributions: Distributions,
) -> list[Turn]:
    """The turns of some conversations, side by side; `ends` are the tokens that end a text."""
    drafts = [Draft.of(request, tokenizer, ends) for request in requests]
    thinking = [draft for draft in drafts if draft.conversation.marks[0]]
    for draft in thinking:
        draft.force(draft.conversation.marks[0])
    thoughts = lines([draft.line(draft.request.think) for draft in thinking])
    for draft, written in zip(thinking, thoughts, strict=True):
        draft.thought = draft.take(written)
        draft.force(draft.conversation.marks[1])
    free = [draft for draft in drafts if draft.request.commands is None]
    for draft, written in zip(free, lines([draft.line(draft.request.max_tokens) for draft in free]), strict=True):
        draft.command = draft.take(written)
        draft.force(draft.conversation.end)
    walks = [Walk(draft) for draft in drafts if draft.request.commands is not None]
    while walks := [walk for walk in walks if not walk.ended]:
        ahead = [walk.ahead() for walk in walks]
        found = iter(distributions(list(chain.from_iterable(ahead))))
        for walk, nodes in zip(walks, ahead, strict=True):
            walk.go([next(found) for _ in nodes])
    return [draft.turn() for draft in drafts]
