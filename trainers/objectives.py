"""The losses. Each is a function of a causal language model and a batch of padded examples.

The vocabulary head is the widest layer of a small model (a fifth of SmolLM2-135M's work), and only the chosen tokens
carry loss: so the hidden states of those positions are gathered first, and the head sees nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from trainers.examples import Example


class Batch(NamedTuple):
    """Examples padded on the right; all tensors have the shape (examples, longest example).

    `weights[i, t]` is the weight of predicting `token_ids[i, t]`; padding has weight 0 and `attention` 0.
    """

    token_ids: torch.Tensor
    attention: torch.Tensor
    weights: torch.Tensor


def collate(examples: Sequence[Example], pad: int = 0) -> Batch:
    """Pad examples on the right into one batch. `pad` is the id that fills the gaps; no loss ever sees it."""
    import torch

    longest = max(len(example) for example in examples)
    token_ids = torch.full((len(examples), longest), pad, dtype=torch.long)
    attention = torch.zeros((len(examples), longest), dtype=torch.long)
    weights = torch.zeros((len(examples), longest), dtype=torch.float32)
    for row, example in enumerate(examples):
        token_ids[row, : len(example)] = torch.tensor(example.token_ids)
        attention[row, : len(example)] = 1
        weights[row, : len(example)] = torch.tensor(example.weights)
    return Batch(token_ids, attention, weights)


@contextmanager
def head_only_at(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """While open, the vocabulary head of `model` sees only these positions of the flattened (batch × time) axis.

    The logits of a forward pass then have the shape (positions, vocabulary). A hook on the head does it, so that the
    model may be wrapped (peft, data parallel) in any way.
    """

    def gather(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0].flatten(0, -2).index_select(0, positions), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def chosen_logprobs(model: Any, batch: Batch, *, bare: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the tokens that carry loss, and their weights; both of shape (chosen tokens,), float32.

    Rows follow each other in the order of the batch. `bare` is the model inside a data-parallel wrapper, if there is
    one; it only tells where the vocabulary head is.
    """
    import torch

    targets = batch.weights[:, 1:].ne(0)
    rows, columns = targets.nonzero(as_tuple=True)
    # The token at column t + 1 is predicted by the hidden state at t.
    positions = rows * batch.token_ids.shape[1] + columns
    with head_only_at(model if bare is None else bare, positions):
        logits = model(input_ids=batch.token_ids, attention_mask=batch.attention, use_cache=False).logits
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = batch.token_ids[rows, columns + 1]
    return logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), batch.weights[rows, columns + 1]


def weighted_sft(model: Any, batch: Batch, *, bare: Any = None) -> torch.Tensor:
    """Weighted supervised fine-tuning: Σ wᵢ·(−log pᵢ) / Σ wᵢ over the tokens that carry loss; a scalar.

    With weights of 0 and 1 this is the mean loss on the chosen tokens, as in ReST-EM (Singh et al. 2023, eq. 3).
    """
    logprobs, weights = chosen_logprobs(model, batch, bare=bare)
    return -(weights * logprobs).sum() / weights.sum()
