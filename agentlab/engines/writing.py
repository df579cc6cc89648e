"""Turns written by a local model: a thought within its budget, then a command, held to the admissible ones.

The constraint is a trie of the commands' tokens: of the tokens that may come next, the likeliest (or a sampled one) is
taken. Log-probabilities are those among all tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agentlab.engines.base import Turn, TurnRequest
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.decoding import Decoding
from memory import prompts
from memory.records import Usage

Reads = Generator[Sequence[int], torch.Tensor, None]
"""A part of what is written, which has its tokens read on the way."""


@dataclass
class Written:
    """Tokens as they are written one after the other; `ahead` are the log-probabilities (vocabulary,) of what comes
    next."""

    ahead: torch.Tensor
    temperature: float
    drawn: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def choose(self, allowed: Iterable[int] | None = None) -> int:
        """The next token, of those that are allowed."""
        among = torch.tensor(sorted(allowed), device=self.ahead.device) if allowed is not None else None
        left = self.ahead if among is None else self.ahead[among]
        if self.temperature > 0:
            shares = torch.softmax(left / self.temperature, dim=-1).cpu()
            at = int(torch.multinomial(shares, 1, generator=self.drawn))
        else:
            at = int(left.argmax())
        return at if among is None else int(among[at])

    def put(self, token: int) -> None:
        """Write a token behind which nothing is read."""
        self.logprobs.append(float(self.ahead[token]))
        self.token_ids.append(token)

    def take(self, token: int) -> Reads:
        """Write a token, and go on behind it."""
        self.put(token)
        self.ahead = yield [token]

    def force(self, tokens: Sequence[int]) -> Reads:
        """Go on behind tokens of which there was no choice."""
        self.token_ids += tokens
        self.logprobs += [0.0] * len(tokens)
        if tokens:
            self.ahead = yield tokens


def write_turn(request: TurnRequest, ahead: torch.Tensor, tokenizer: Any, ends: Collection[int]) -> Decoding[Turn]:
    """The turn of a conversation; `ahead` are the log-probabilities at its end, `ends` the tokens that end a text."""
    conversation = request.conversation
    assert isinstance(conversation, TokenConversation)
    written = Written(ahead, request.temperature, torch.Generator().manual_seed(request.seed))
    before, between = conversation.marks
    ends = {*conversation.end, *ends}
    thought = ""
    if before:
        yield from written.force(before)
        thought = yield from _line(written, request.think, ends, tokenizer)
        yield from written.force(between)
    if request.commands is None:
        command = yield from _line(written, request.max_tokens, ends, tokenizer)
        written.token_ids += conversation.end
        written.logprobs += [0.0] * len(conversation.end)
    else:
        tokens = {tuple(conversation.command_tokens(one)): one for one in request.commands}
        command = yield from _command(written, tokens)
    text = str(tokenizer.decode(written.token_ids, skip_special_tokens=True))
    usage = Usage(output_tokens=len(written.token_ids))
    return Turn(text, prompts.one_line(command), thought, written.token_ids, written.logprobs, usage)


def _line(written: Written, most: int, ends: Collection[int], tokenizer: Any) -> Decoding[str]:
    """Write freely until the line or the turn ends, which is not taken; the text."""
    start = len(written.token_ids)
    while len(written.token_ids) - start < most:
        token = written.choose()
        if token in ends or "\n" in tokenizer.decode([token]):
            break
        yield from written.take(token)
    return str(tokenizer.decode(written.token_ids[start:], skip_special_tokens=True)).strip()


def _command(written: Written, commands: dict[tuple[int, ...], str]) -> Decoding[str]:
    """Write one of `commands` (by their tokens, what ends the turn included)."""
    done: tuple[int, ...] = ()
    while done not in commands:
        here = len(done)
        token = written.choose({tokens[here] for tokens in commands if tokens[:here] == done and len(tokens) > here})
        done = (*done, token)
        if done in commands:
            written.put(token)
        else:
            yield from written.take(token)
    return commands[done]
