"""Texts written token by token, many beside each other: what each has said is read in one pass.

A text is written by a generator. It gives tokens that are to be read behind what its slot holds, and a tree behind them
that is not kept; it gets the log-probabilities (asked nodes, vocabulary) of what comes next at their end and at each
node. What it returns is the answer. One that is done leaves the others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch

from agentlab.engines.passes import Passes, Reading
from agentlab.engines.slots import Slot
from trainers.objectives import TokenTree

Answer = TypeVar("Answer")
Decoding = Generator[tuple[Sequence[int], TokenTree], torch.Tensor, Answer]


def decoded(passes: Passes, model: Any, texts: Sequence[tuple[Slot, Decoding[Answer]]]) -> list[Answer]:
    """The answers, in order. What one raises ends all."""
    answers: dict[int, Answer] = {}
    asked: dict[int, tuple[Sequence[int], TokenTree]] = {}

    def go_on(at: int, found: torch.Tensor | None) -> None:
        """Have one say what is to be read, or its answer."""
        text = texts[at][1]
        try:
            asked[at] = next(text) if found is None else text.send(found)
        except StopIteration as end:
            answers[at] = end.value

    with ExitStack() as left:
        for at, (_, text) in enumerate(texts):
            left.callback(text.close)
            go_on(at, None)
        while asked:
            order = sorted(asked)
            readings = [Reading(texts[at][0], *asked.pop(at)) for at in order]
            for place, found in passes.read(model, readings):
                go_on(order[place], found)
    return [answers[at] for at in range(len(texts))]
