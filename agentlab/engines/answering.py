"""Answers of a local model to a message of a user, such as a reflection that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from agentlab.engines.base import WriteRequest, Writing
from agentlab.engines.decoding import Decoding
from agentlab.engines.writing import Written
from memory.records import Usage
from memory.text import is_tag, left_open
from trainers.data import Tokenizer


def opened(request: WriteRequest, tokenizer: Any, tokenize: Tokenizer, context: int) -> tuple[list[int], int, str]:
    """The tokens of a request, through the tokenizer's chat template where it has one; how many may be written; and the
    tag of a thought that the template has opened."""
    opening, thought = list(tokenize.opening), ""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": request.prompt}]
        text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        thought = left_open(text)
        ids = list(tokenizer(text, add_special_tokens=False).input_ids)
        opening = opening if ids[: len(opening)] == opening else []
        ids = ids[len(opening) :]
    else:
        ids = tokenize(request.prompt)
    max_tokens = min(request.max_tokens, context // 2)
    ids = [*opening, *ids[-(context - max_tokens - len(opening)) :]]
    # An empty prompt has no token to go on from.
    return ids or [tokenizer.eos_token_id or 0], max_tokens, thought


def answer(
    request: WriteRequest, tokenizer: Any, tokenize: Tokenizer, context: int, ends: Collection[int]
) -> Decoding[Writing]:
    """What a model writes, through the tokenizer's chat template where it has one, up to one of the tokens `ends`.

    The tags of thoughts stay, also that which the template has opened, so that `memory.text` can tell them.
    """
    ids, max_tokens, thought = opened(request, tokenizer, tokenize, context)
    written = Written(list(ids), request.temperature, torch.Generator().manual_seed(request.seed))
    while len(written.token_ids) < max_tokens:
        token = yield from written.choose()
        written.take(token)
        if token in ends:
            break
    usage = Usage(input_tokens=len(ids), output_tokens=len(written.token_ids))
    text = (thought + said(tokenizer, written.token_ids)).strip()
    return Writing(text, written.token_ids, written.logprobs, usage)


def said(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of `tokens` without special ones, unless they are the tags of thoughts."""
    special = tokenizer.all_special_tokens
    if not any(map(is_tag, special)):
        return str(tokenizer.decode(tokens, skip_special_tokens=True))
    text = str(tokenizer.decode(tokens, skip_special_tokens=False))
    for token in special:
        text = text if is_tag(token) else text.replace(token, "")
    return text
