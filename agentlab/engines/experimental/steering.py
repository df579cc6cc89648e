"""Steering: vectors that are added to what layers of a model hand on, and how they are found.

By the gradients of the model's own judgement of what was done (Cai et al. 2024, Self-Control, §3), compressed into one
vector a layer in place of the paper's prefix controller; or by the difference of mean hidden states (Rimsky et al.
2024, contrastive activation addition).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from agentlab.engines.layers import change_layers, decoder_layers
from agentlab.errors import UnsupportedModel
from trainers.data import Tokenizer

Vectors = Mapping[int, torch.Tensor]
"""What is added to each layer (width,), by its number from 0."""

ITERATIONS = 4
"""Steps along suffix gradients: in each they are taken of the model as it is steered so far."""


@dataclass(frozen=True)
class Question:
    """What is read behind a step, and the tokens of its two answers."""

    tokens: tuple[int, ...]
    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, tokenize: Tokenizer, text: str, *, chat: bool) -> Question:
        """A question behind a transcript, or as the next message of the user behind a chat."""
        asked = tokenize.chat.turn(text, first=False) if chat else tokenize(text)
        yes, no = (tuple(tokenize(answer if chat else f" {answer}")) for answer in ("Yes", "No"))
        return cls(tuple(asked), yes, no)


@dataclass(frozen=True)
class Asked:
    """The tokens of a game up to one step with its command, and the question behind them."""

    tokens: tuple[int, ...]
    question: Question


def steer(model: Any, vectors: Vectors, tokens: int | None = None) -> ExitStack:
    """Add vectors to what layers hand on, at the first `tokens` of a sequence (None: at all), until it is closed."""

    def added(at: int, hidden: torch.Tensor) -> torch.Tensor:
        vector = vectors[at].to(hidden.device, hidden.dtype)
        if tokens is None:
            return hidden + vector
        return torch.cat([hidden[:, :tokens] + vector, hidden[:, tokens:]], dim=1)

    return change_layers(model, added, vectors)


def steered_layers(model: Any) -> list[int]:
    """The layers that are steered: the middle third. The last is none of them, whose states no other token reads.

    Raises UnsupportedModel if the model has a single layer.
    """
    count = len(decoder_layers(model))
    if count < 2:
        raise UnsupportedModel("A model of one layer cannot be steered: no layer is left that would read it.")
    return list(range(count // 3, max(2 * count // 3, count // 3 + 1)))


def suffix_score(model: Any, asked: Asked, vectors: Vectors) -> torch.Tensor:
    """log p(Yes) − log p(No) behind the question, with vectors added at all tokens before it: a number, float64.

    Its logistic function is the paper's p(Yes) / (p(Yes) + p(No)). It can be differentiated by the vectors.
    """
    question, read, scores = asked.question, dict[tuple[int, ...], torch.Tensor](), list[torch.Tensor]()
    for answer in (question.yes, question.no):
        before = answer[:-1]
        if before not in read:  # one pass for both where they are of one token, as in most vocabularies
            with steer(model, vectors, len(asked.tokens)):
                logits = model(input_ids=_ids(model, [*asked.tokens, *question.tokens, *before])).logits
            read[before] = logits[0, -len(answer) :].double().log_softmax(-1)
        scores.append(read[before].gather(1, _ids(model, answer).T).sum())
    return scores[0] - scores[1]


def suffix_gradient(model: Any, asked: Asked, vectors: Vectors) -> tuple[float, dict[int, torch.Tensor]]:
    """The suffix score, and its gradient by the vector of each layer: the sum of those by the states of all tokens."""
    with torch.enable_grad():
        leaves = {at: vector.detach().clone().requires_grad_() for at, vector in vectors.items()}
        score = suffix_score(model, asked, leaves)
        found = torch.autograd.grad(score, list(leaves.values()))
    return float(score.detach()), dict(zip(leaves, found, strict=True))


def states(model: Any, tokens: Sequence[int], layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """What these layers hand on, float32 (tokens, width)."""
    found: dict[int, torch.Tensor] = {}

    def heard(at: int, hidden: torch.Tensor) -> torch.Tensor:
        found[at] = hidden[0].float()
        return hidden

    with torch.inference_mode(), change_layers(model, heard, layers):
        model(input_ids=_ids(model, tokens))
    return found


def lengths(model: Any, steps: Sequence[Asked], layers: Sequence[int]) -> dict[int, float]:
    """The median length (L2 norm) of a hidden state of each layer; the first token's, often huge, count for little."""
    found = [{at: own.norm(dim=-1) for at, own in states(model, one.tokens, layers).items()} for one in steps]
    return {at: float(torch.cat([one[at] for one in found]).median()) for at in layers}


def self_control(
    model: Any, steps: Sequence[Asked], layers: Sequence[int], strength: float, tell: Callable[[], None]
) -> dict[int, torch.Tensor]:
    """Mean suffix gradients, each of length 1 (Cai et al. 2024), as a vector a layer as long as its states are.

    They are gone along in a few steps which together have `strength`. `tell` is called after each gradient.
    """
    norms = lengths(model, steps, layers)
    vectors = {at: torch.zeros(model.config.hidden_size, device=model.device) for at in layers}
    for _ in range(ITERATIONS):
        total = {at: torch.zeros_like(vector) for at, vector in vectors.items()}
        for one in steps:
            _, gradient = suffix_gradient(model, one, {at: strength * vector for at, vector in vectors.items()})
            for at in layers:
                total[at] += _unit(gradient[at])
            tell()
        for at in layers:
            vectors[at] += norms[at] / ITERATIONS * _unit(total[at])
    return {at: norms[at] * _unit(vector) for at, vector in vectors.items()}


def mean_difference(
    model: Any, won: Sequence[Asked], lost: Sequence[Asked], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """The mean state after the last token of steps of won games less that of lost ones (Rimsky et al. 2024), as long as
    the states are."""
    norms = lengths(model, [*won, *lost], layers)

    def mean(steps: Sequence[Asked]) -> torch.Tensor:
        found = (states(model, one.tokens, layers) for one in steps)
        return torch.stack([torch.stack([own[at][-1] for at in layers]) for own in found]).mean(0)

    return {at: norms[at] * _unit(one) for at, one in zip(layers, mean(won) - mean(lost), strict=True)}


def random_direction(model: Any, steps: Sequence[Asked], layers: Sequence[int], seed: int) -> dict[int, torch.Tensor]:
    """A direction drawn by a seed, as long as the states of each layer are."""
    norms, lots = lengths(model, steps, layers), torch.Generator().manual_seed(seed)
    return {at: norms[at] * _unit(torch.randn(model.config.hidden_size, generator=lots)) for at in layers}


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vector.float(), dim=0)


def _ids(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(tokens)], device=model.device)
