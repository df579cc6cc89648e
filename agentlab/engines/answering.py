"""Answers of a local model to a message of a user: a reflection that is asked for, or the next message of a chat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from agentlab.engines.base import WriteRequest, Writing
from agentlab.engines.decoding import Decoding
from agentlab.engines.writing import Written, one_of
from agentlab.errors import ContextExceeded, Unacceptable
from memory.prompts import Message
from memory.records import Usage
from memory.text import is_tag, left_open
from trainers.data import Tokenizer

LEAST = 16
"""Tokens that are left for an answer, at least, where a chat is read whole."""


def opened(request: WriteRequest, tokenizer: Any, tokenize: Tokenizer, context: int) -> tuple[list[int], int, str]:
    """The tokens of a request, through the tokenizer's chat template where it has one; how many may be written; and the
    tag of a thought that the template has opened.

    Raises ContextExceeded where a chat is to be read whole and does not fit, Unacceptable where its template refuses
    it.
    """
    opening, thought = list(tokenize.opening), ""
    messages = [*request.before, Message("user", request.prompt)]
    if tokenizer.chat_template:
        text = _rendered(tokenizer, messages)
        thought = left_open(text)
        ids = list(tokenizer(text, add_special_tokens=False).input_ids)
        opening = opening if ids[: len(opening)] == opening else []
        ids = ids[len(opening) :]
    else:
        ids = tokenize(_transcript(messages) if request.before else request.prompt)
    max_tokens = min(request.max_tokens, context // 2)
    if request.whole:
        left = context - len(opening) - len(ids)
        if left < min(LEAST, request.max_tokens):
            raise ContextExceeded(
                f"The messages have {len(opening) + len(ids)} tokens, which leaves no room for an answer in a context "
                f"of {context}; send fewer or shorter ones, or raise `context` in lab.toml."
            )
        max_tokens = min(request.max_tokens, left)
    ids = [*opening, *ids[-(context - max_tokens - len(opening)) :]]
    # An empty prompt has no token to go on from.
    return ids or [tokenizer.eos_token_id or 0], max_tokens, thought


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text of a chat by the template; where that knows no system, its text begins the user's first message."""
    without = _without_system(messages)
    for chat in (messages, without) if without != messages else (messages,):
        said = [{"role": message.role, "content": message.text} for message in chat]
        try:
            return str(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # a template is a program, which raises what it likes
            refused = error
    raise Unacceptable(
        f"The model's chat template does not take these messages ({' '.join(str(refused).split())[:120]}); send "
        "those of user and assistant in turns."
    ) from refused


def _without_system(messages: Sequence[Message]) -> list[Message]:
    system = [message.text for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    first = next((at for at, message in enumerate(others) if message.role == "user"), 0)
    if system:
        others[first] = Message("user", "\n\n".join([*system, others[first].text]))
    return others


def _transcript(messages: Sequence[Message]) -> str:
    """A chat for a model that has no template."""
    lines = [f"{message.role.capitalize()}: {message.text}" for message in messages]
    return "\n".join([*lines, "Assistant:"])


def answer(
    request: WriteRequest, tokenizer: Any, tokenize: Tokenizer, context: int, ends: Collection[int]
) -> Decoding[Writing]:
    """What a model writes, through the tokenizer's chat template where it has one, up to one of the tokens `ends`.

    The tags of thoughts stay, also that which the template has opened, so that `memory.text` can tell them.
    """
    ids, max_tokens, thought = opened(request, tokenizer, tokenize, context)
    written = Written(list(ids), request.temperature, torch.Generator().manual_seed(request.seed))
    endings, ended = _endings(request, tokenizer, tokenize), False
    most = max_tokens - max(map(len, endings), default=0)
    while len(written.token_ids) < most and not ended:
        token = yield from written.choose()
        ended = token in ends
        if ended and endings:
            break
        written.take(token)
        if request.listener is not None and not ended:
            ended = not request.listener(thought + said(tokenizer, written.token_ids))
    if endings:
        if written.token_ids and not said(tokenizer, written.token_ids).endswith("\n"):
            written.force(list(tokenize("\n")))
        yield from one_of(written, endings)
        ended = True
    usage = Usage(input_tokens=len(ids), output_tokens=len(written.token_ids))
    text = (thought + said(tokenizer, written.token_ids)).strip()
    return Writing(text, written.token_ids, written.logprobs, usage, cut=not ended, prompt_ids=ids)


def _endings(request: WriteRequest, tokenizer: Any, tokenize: Tokenizer) -> dict[tuple[int, ...], str]:
    """The lines one of which is to end an answer, by their tokens, with the token that ends it."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return {(*tokenize(line), *end): line for line in request.endings}


def said(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of `tokens` without special ones, unless they are the tags of thoughts."""
    special = tokenizer.all_special_tokens
    if not any(map(is_tag, special)):
        return str(tokenizer.decode(tokens, skip_special_tokens=True))
    text = str(tokenizer.decode(tokens, skip_special_tokens=False))
    for token in special:
        text = text if is_tag(token) else text.replace(token, "")
    return text
