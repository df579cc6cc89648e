"""What a reasoning model thinks before it answers, split from its answer: a thought is never stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Write = Callable[[str, int], str]
"""Anything that can write: `write(prompt, max_tokens)` gives text."""

ROOM = 1024
"""Tokens that a thought may have beside the answer, where one was cut off."""

# The names that families give to the tag: `<think>` (DeepSeek R1, Qwen 3), `<thinking>`, `<thought>`, `<reasoning>`,
# `<seed:think>`, `[THINK]` (Mistral), `◁think▷` (Kimi), `<|START_THINKING|>` (Command), `<|begin_of_thought|>`.
_NAME = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad)"
_OPENING = rf"<\|?(?:START_|begin_of_)?{_NAME}\|?>|\[THINK\]|◁think▷"
_CLOSING = rf"</{_NAME}>|<\|(?:END_|end_of_)(?:thinking|thought|reasoning)\|>|\[/THINK\]|◁/think▷"
_OPEN = re.compile(_OPENING, re.IGNORECASE)
_TAG = re.compile(f"(?P<close>{_CLOSING})|{_OPENING}", re.IGNORECASE)


class Answer(NamedTuple):
    """An answer without its thoughts. `cut` says that the text ended within a thought, so that nothing was answered."""

    answer: str
    cut: bool


def split_thought(text: str) -> Answer:
    """The answer in what a model wrote, whether its thought is closed, empty, cut off, or opened in the template only.

    What stands before a closing tag is thought even where no tag opens it. Several thoughts are all left out.
    """
    answer: list[str] = []
    thinking, at = False, 0
    for tag in _TAG.finditer(text):
        if tag["close"]:
            # Opened in the template, all before it is thought.
            answer = answer if thinking else []
            thinking, at = False, tag.end()
        elif not thinking:
            answer.append(text[at : tag.start()])
            thinking, at = True, tag.end()
    if not thinking:
        answer.append(text[at:])
    said = "".join(answer).strip()
    return Answer(said, thinking and not said)


def answer_in(text: str) -> str:
    """The answer in what a model wrote, without its thoughts; empty where it never came to one."""
    return split_thought(text).answer


def is_tag(token: str) -> bool:
    """Whether a token opens or closes a thought."""
    return _TAG.fullmatch(token) is not None


def left_open(prompt: str) -> str:
    """The tag with which `prompt` ends, if it opens a thought; else an empty text. What is answered lacks that tag."""
    end = prompt.rstrip()[-40:]
    return next((found.group() for found in _OPEN.finditer(end) if found.end() == len(end)), "")


def answered(write: Write, prompt: str, tokens: int) -> str:
    """What `write` answers to `prompt` in some `tokens`, without thoughts; empty where it never came to an answer.

    Where a thought took the room (all of it, so that it was cut off, or more than half), it is asked once more, with
    `ROOM` for the thought beside that for the answer.
    """
    first = write(prompt, tokens)
    answer, cut = split_thought(first)
    thought = len(first.strip()) - len(answer)  # characters: some four a token
    if cut or thought > 2 * tokens or (thought and not answer):
        answer = split_thought(write(prompt, tokens + ROOM)).answer or answer
    return answer
