"""Turns written by a local model: a thought within its budget, then a command, held to the admissible ones.

The constraint is a trie of the commands' tokens: of the tokens that may come next, the likeliest (or a sampled one) is
taken. Log-probabilities are those among all tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agentlab.engines.base import Turn, TurnRequest
from agentlab.engines.conversation import TokenConversation
from agentlab.engines.decoding import Decoding
from memory import prompts
from memory.records import Usage
from trainers.objectives import TokenTree


@dataclass
class Written:
    """Tokens as they are written one after the other behind `unread`, which are read when what follows is asked.

    `ahead` are the log-probabilities (vocabulary,) of what comes next behind all that was read; None before that.
    """

    unread: list[int]
    temperature: float
    drawn: torch.Generator
    ahead: torch.Tensor | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def _due(self) -> list[int]:
        due, self.unread = self.unread, []
        return due

    def choose(self, allowed: Iterable[int] | None = None) -> Decoding[int]:
        """The next token, of those that are allowed; it is not written yet."""
        if self.unread:
            self.ahead = (yield self._due(), TokenTree())[0]
        assert self.ahead is not None, "behind something"
        among = torch.tensor(sorted(allowed), device=self.ahead.device) if allowed is not None else None
        left = self.ahead if among is None else self.ahead[among]
        if self.temperature > 0:
            shares = torch.softmax(left / self.temperature, dim=-1).cpu()
            at = int(torch.multinomial(shares, 1, generator=self.drawn))
        else:
            at = int(left.argmax())
        return at if among is None else int(among[at])

    def take(self, token: int) -> None:
        """Write the token that was chosen."""
        assert self.ahead is not None and not self.unread, "chosen"
        self.logprobs.append(float(self.ahead[token]))
        self.token_ids.append(token)
        self.unread.append(token)

    def force(self, tokens: Sequence[int]) -> None:
        """Write tokens of which there was no choice."""
        self.token_ids += tokens
        self.logprobs += [0.0] * len(tokens)
        self.unread += tokens

    def finish(self, tokens: Sequence[int]) -> Decoding[None]:
        """Write what is left once all is chosen, with its log-probabilities, in one pass; nothing comes behind it."""
        if not self.unread:  # what comes next is known
            self.take(tokens[0])
            tokens = tokens[1:]
        if tokens:
            found = yield self._due(), TokenTree.of([tokens])
            self.logprobs += found[list(range(len(tokens))), list(tokens)].tolist()
            self.token_ids += tokens


def write_turn(request: TurnRequest, written: Written, tokenizer: Any, ends: Collection[int]) -> Decoding[Turn]:
    """The turn of a conversation, as `written` behind it; `ends` are the tokens that end a text."""
    conversation = request.conversation
    assert isinstance(conversation, TokenConversation)
    (before, between), end = conversation.marks, conversation.end
    ends = {*end, *ends}
    thought = ""
    if before:
        written.force(before)
        thought = yield from _line(written, request.think, ends, tokenizer)
        written.force(between)
    if request.commands is None:
        command = yield from _line(written, request.max_tokens, ends, tokenizer)
        written.force(end)
    else:
        tokens = {tuple(conversation.command_tokens(one)): one for one in request.commands}
        command = yield from one_of(written, tokens)
    text = str(tokenizer.decode(written.token_ids, skip_special_tokens=True))
    usage = Usage(output_tokens=len(written.token_ids))
    return Turn(text, prompts.one_line(command), thought, written.token_ids, written.logprobs, usage)


def _line(written: Written, most: int, ends: Collection[int], tokenizer: Any) -> Decoding[str]:
    """Write freely until the line or the turn ends, which is not taken; the text."""
    start = len(written.token_ids)
    while len(written.token_ids) - start < most:
        token = yield from written.choose()
        if token in ends or "\n" in tokenizer.decode([token]):
            break
        written.take(token)
    return str(tokenizer.decode(written.token_ids[start:], skip_special_tokens=True)).strip()


def one_of(written: Written, commands: dict[tuple[int, ...], str]) -> Decoding[str]:
    """Write one of `commands` (by their tokens, what ends the turn included)."""
    done: tuple[int, ...] = ()
    while done not in commands:
        here = len(done)
        left = [tokens for tokens in commands if tokens[:here] == done]
        if len(left) == 1:
            yield from written.finish(left[0][here:])
            return commands[left[0]]
        token = yield from written.choose({tokens[here] for tokens in left})
        written.take(token)
        done = (*done, token)
    return commands[done]
