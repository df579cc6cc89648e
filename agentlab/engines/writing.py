"""Turns written by a local model: a thought within its budget, then a command, held to the admissible ones.

The constraint is a trie of the commands' tokens: of the tokens that may come next, the likeliest (or a sampled one) is
taken. Log-probabilities are those among all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agentlab.engines.base import Turn, TurnRequest
from agentlab.engines.conversation import TokenConversation
from memory import prompts
from memory.records import Usage

Read = Callable[[Sequence[int]], torch.Tensor]
"""Reads further tokens, and gives the logits (vocabulary,) of what comes behind them."""


@dataclass
class Written:
    """Tokens as they are written one after the other; `ahead` are the logits of what comes next."""

    read: Read
    ahead: torch.Tensor
    temperature: float
    drawn: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    steps: int = 0

    def choose(self, allowed: Iterable[int] | None = None) -> int:
        """The next token, of those that are allowed."""
        logits = self.ahead
        among = torch.tensor(sorted(allowed), device=logits.device) if allowed is not None else None
        left = logits if among is None else logits[among]
        if self.temperature > 0:
            shares = torch.softmax(left / self.temperature, dim=-1).cpu()
            at = int(torch.multinomial(shares, 1, generator=self.drawn))
        else:
            at = int(left.argmax())
        return at if among is None else int(among[at])

    def take(self, tokens: Sequence[int], *, forced: bool = False) -> None:
        """Go on behind these tokens; of those that were `forced` there was no choice."""
        for token in tokens:
            self.logprobs.append(0.0 if forced else float(torch.log_softmax(self.ahead, dim=-1)[token]))
            self.token_ids.append(token)
            if not forced:
                self._go(token)
        if forced and tokens:
            self.ahead = self.read(tokens)
            self.steps += 1

    def _go(self, token: int) -> None:
        self.ahead = self.read([token])
        self.steps += 1


def write_turn(request: TurnRequest, read: Read, ahead: torch.Tensor, tokenizer: Any) -> Turn:
    """The turn of a conversation, of which `ahead` are the logits at its end."""
    conversation = request.conversation
    assert isinstance(conversation, TokenConversation)
    drawn = torch.Generator().manual_seed(request.seed)
    written = Written(read, ahead, request.temperature, drawn)
    before, between = conversation.marks
    ends = {*conversation.end, *_ends(tokenizer)}
    thought = ""
    if before:
        written.take(before, forced=True)
        thought = _line(written, request.think, ends, tokenizer)
        written.take(between, forced=True)
    if request.commands is None:
        command = _line(written, request.max_tokens, ends, tokenizer)
        written.token_ids += conversation.end
        written.logprobs += [0.0] * len(conversation.end)
    else:
        command = _command(written, {tuple(conversation.command_tokens(one)): one for one in request.commands})
    text = str(tokenizer.decode(written.token_ids, skip_special_tokens=True))
    usage = Usage(output_tokens=len(written.token_ids))
    return Turn(text, prompts.one_line(command), thought, written.token_ids, written.logprobs, usage)


def _ends(tokenizer: Any) -> set[int]:
    return {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()


def _line(written: Written, most: int, ends: set[int], tokenizer: Any) -> str:
    """Write freely until the line or the turn ends, which is not taken; the text."""
    start = len(written.token_ids)
    while len(written.token_ids) - start < most:
        token = written.choose()
        if token in ends or "\n" in tokenizer.decode([token]):
            break
        written.take([token])
    return str(tokenizer.decode(written.token_ids[start:], skip_special_tokens=True)).strip()


def _command(written: Written, commands: dict[tuple[int, ...], str]) -> str:
    """Write one of `commands` (by their tokens, what ends the turn included)."""
    done: tuple[int, ...] = ()
    while done not in commands:
        here = len(done)
        token = written.choose({tokens[here] for tokens in commands if tokens[:here] == done and len(tokens) > here})
        done = (*done, token)
        if done in commands:  # nothing is read behind the last one
            written.logprobs.append(float(torch.log_softmax(written.ahead, dim=-1)[token]))
            written.token_ids.append(token)
        else:
            written.take([token])
    return commands[done]
