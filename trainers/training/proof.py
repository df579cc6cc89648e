"""The proof, on the very model that is to be trained, that a batch means what its sequences mean one by one.

Padding, packing and trees each take for granted what a model does with masks and positions. Families differ in that,
and where one does otherwise the training runs to its end on numbers that are wrong. So before the first step a few
tokens go through the model in each form that the job will use, and where they are packed or laid into trees as many as
its longest sequence has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from trainers.data.examples import Example
from trainers.data.records import Distilled, Pair, Record
from trainers.errors import BadExample, CannotPack, OutOfMemory, TooLong, TrainersError, UnsupportedModel
from trainers.objectives import branching
from trainers.objectives.base import Objective
from trainers.objectives.losses import chosen_logprobs, collate
from trainers.training import packing
from trainers.training.attention import layer_window
from trainers.training.footprint import ran_out

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""What rounding makes of a token's log-probability, in nats, on average over a sequence."""

SHORT, LONG = 24, 40
"""Tokens of the two sequences that are tried at least, of which the short one stands first. At most LONG are asked."""


class Shape(NamedTuple):
    """What the sequences of a job ask of a model: the longest in tokens, and the largest token id."""

    longest: int
    largest: int


def shape(records: Sequence[Record]) -> Shape:
    """The shape of a job with these records."""
    sequences = [sequence for record in records for sequence in _sequences(record)]
    return Shape(max(map(len, sequences)), max(map(max, sequences)))


def check_model(model: Any, objective: Objective, records: Sequence[Record], precision: Callable[[], Any]) -> None:
    """Refuse what `model` would read wrongly or not at all; `precision` opens the number format that it computes in.

    Raises TooLong or BadExample for sequences that it has no positions or no tokens for, UnsupportedModel if a padded
    batch, or a tree where the objective lays its records into trees, gives other numbers than the sequences alone.
    """
    config, (longest, largest) = model.config.get_text_config(decoder=True), shape(records)
    positions = getattr(config, "max_position_embeddings", None)
    if positions and longest > positions:
        raise TooLong(
            f"the longest sequence has {longest} tokens; the model has positions for {positions}; make the examples "
            f"with max_tokens of at most that"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if largest >= rows:
        raise BadExample(
            f"an example has the token {largest}; the model knows {rows}; they were made with another tokenizer; make "
            "them with the one in the model's folder"
        )
    window = layer_window(config)
    if objective.in_trees and window is not None and longest > window:
        raise UnsupportedModel(
            f"{objective.config.objective} lays sequences into trees, but layers of this model see {window} tokens and "
            f"the longest sequence has {longest}; some would see others; set max_tokens to at most {window}, or choose "
            "another objective"
        )
    pair = _pair(records)
    with torch.no_grad(), precision(), refusing(f"be trained by {objective.config.objective}; choose another model"):
        alone = [_logprobs(model, [example]) for example in pair]
        form, found = "a padded batch", _flaw(lambda: _logprobs(model, pair), alone, model)
        if found is None and objective.in_trees:
            # As long as the longest: a layer may see less than everything whatever its settings call that.
            pair = _pair(records, longest)
            alone = [_logprobs(model, [example]) for example in pair]
            form, found = "a tree of sequences", _flaw(lambda: _in_tree(model, pair), alone, model)
    if found is not None:
        raise UnsupportedModel(
            f"this model cannot be trained by {objective.config.objective}; {form} gives other numbers than its "
            f"sequences alone ({found}); choose another objective, or another model"
        )


TOO_LARGE = (
    "memory runs out before the first step; the model or the longest example is too large for this machine; leave out "
    "long episodes (max_tokens), or use a larger machine"
)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Say in one line that a model cannot do `what` (and what to do), where something of its own fails."""
    try:
        yield
    except TrainersError:
        raise
    except Exception as error:
        if ran_out(error):
            raise OutOfMemory(TOO_LARGE) from error
        raise UnsupportedModel(f"this model cannot {what} ({in_one_line(error)})") from error


def in_one_line(error: Exception) -> str:
    """What an error of somebody else's says, and of which class it is."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def why_not_packed(model: Any, attention: str, records: Sequence[Record], precision: Callable[[], Any]) -> str | None:
    """Why batches of these records are not packed on `model` (a transformers model); None if they are.

    Packed with another sequence, each must have the log-probabilities that it has alone, to rounding, and the same to
    the bit whatever that other one is.
    """
    longest = shape(records).longest
    reason = packing.why_not(model, longest)
    if reason is not None:
        return reason
    first, second = pair = _pair(records)
    _, whole = _pair(records, longest)
    other = first.model_copy(update={"token_ids": [*reversed(second.token_ids)][: len(first)]})
    with torch.no_grad(), precision(), refusing("be trained; choose another model"):
        alone = [_logprobs(model, [example]) for example in (*pair, whole)]
        try:
            with packing.packed(model, attention) as rows:
                beside_other = _logprobs(model, [other, second])
                reason = _flaw(lambda: _logprobs(model, pair), alone[:2], model)
                seen = not torch.equal(_logprobs(model, pair)[len(alone[0]) :], beside_other[len(alone[0]) :])
                reason = reason or _flaw(lambda: _logprobs(model, [whole]), alone[2:], model)
                # What is not packed passes through the same attention.
                reason = reason or _flaw(lambda: _logprobs(model, [first], bare=True), alone[:1], model)
        except (CannotPack, AttributeError, RuntimeError, TypeError, ValueError) as error:
            if ran_out(error):
                raise
            return " ".join(str(error).split())[:200]
        if not rows:
            return "its body does not take its input in a form that rows can be made of"
    return "an example sees the one before it" if seen else reason


def _flaw(compute: Callable[[], torch.Tensor], alone: Sequence[torch.Tensor], model: Any) -> str | None:
    """How far what is computed lies from the sequences alone, where that is more than rounding."""
    try:
        found = compute().split([len(part) for part in alone])
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if ran_out(error):
            raise
        return " ".join(str(error).split())[:120]
    apart = max(float((one - other).abs().mean()) for one, other in zip(found, alone, strict=True))
    # Written so that not-a-number is a flaw as well.
    return None if apart <= TOLERANCE.get(model.dtype, 0.1) else f"{apart:.2g} nats a token"


def _logprobs(model: Any, examples: Sequence[Example], *, bare: bool = False) -> torch.Tensor:
    """The log-probability of every token that is asked of each example, one behind the other."""
    if bare:
        ids = torch.tensor([examples[0].token_ids], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        asked = torch.tensor(examples[0].weights[1:], device=model.device) > 0
        return torch.log_softmax(logits, dim=-1).gather(-1, ids[0, 1:, None]).squeeze(-1)[asked]
    batch = collate(examples)
    return chosen_logprobs(model, type(batch)(*(tensor.to(model.device) for tensor in batch)))[0]


def _in_tree(model: Any, pair: Sequence[Example]) -> torch.Tensor:
    """The same by a tree in which both share as much as they do."""
    tree = branching.of_pair(Pair(better=pair[0], worse=pair[1]))
    batch = branching.lay_out([tree])
    moved = type(batch)(*(tensor.to(model.device) for tensor in batch))
    # Each asked token a sequence of its own, so that none makes up for another.
    each = torch.arange(len(moved.tokens), device=model.device)
    return branching.sequence_logprobs(model, moved._replace(sequences=each, lengths=torch.ones_like(each)))


def _pair(records: Sequence[Record], longest: int = 0) -> tuple[Example, Example]:
    """Two sequences of tokens of the records, of which the second has `longest`. They begin alike, by half of it."""
    begun, short, long = (max(longest * part // 4, least) for part, least in ((2, SHORT // 2), (3, SHORT), (4, LONG)))
    ids = [token for record in records[:4] for token in _sequences(record)[0]]
    while len(ids) < short + long:
        ids += [*reversed(ids)]
    return _asked(ids[:short], begun), _asked(ids[:begun] + ids[short : short + long - begun], begun)


def _asked(ids: list[int], begun: int) -> Example:
    """Asked are, of long ones, the tokens behind the common beginning and the last: a window shows at either."""
    some = range(begun, begun + LONG // 2)
    chosen = [at > 0 and (len(ids) <= LONG or at in some or at >= len(ids) - len(some)) for at in range(len(ids))]
    return Example(token_ids=ids, weights=[float(one) for one in chosen], episode="", task="")


def _sequences(record: Record) -> list[list[int]]:
    """The token sequences of a record, each as long as the model will see one."""
    names = ("better", "worse", "example", "reference")
    found = [getattr(record, name) for name in names if hasattr(record, name)] or [record]
    sequences = [example.token_ids for example in found]
    if isinstance(record, Distilled):
        sequences += [record.example.token_ids[: c.at] + ids for c in record.choices for ids in c.candidates]
    return sequences
