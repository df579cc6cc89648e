"""The losses: first the log-probabilities that a causal language model gives a batch, then what is made of them.

The vocabulary head is the widest layer of a small model (a fifth of SmolLM2-135M's work), and only the chosen tokens
carry loss: so the hidden states of those positions are gathered first, and the head sees nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from trainers.data.examples import Example

    Places = tuple[torch.Tensor, torch.Tensor]
    """Row and column in a batch of each token that carries loss; both of shape (chosen tokens,)."""


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
def _head_sees(model: Any, states: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While open, the vocabulary head of `model` sees what `states` makes of the hidden states that come to it.

    A hook on the head does it, so that the model may be wrapped (peft, data parallel) in any way, and what it does to
    the logits behind the head (a soft cap, a scale) is done as ever.
    """

    def change(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (states(inputs[0]), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(change)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def head_only_at(model: Any, positions: torch.Tensor) -> Iterator[None]:
    """While open, the vocabulary head of `model` sees only these positions of the flattened (batch × time) axis.

    The logits of a forward pass then have the shape (positions, vocabulary).
    """
    with _head_sees(model, lambda states: states.flatten(0, -2).index_select(0, positions)):
        yield


def _asked(batch: Batch) -> tuple[torch.Tensor, Places]:
    """The flattened positions whose distributions give the tokens that carry loss, and the places of those tokens."""
    rows, columns = batch.weights[:, 1:].ne(0).nonzero(as_tuple=True)
    # The token at column t + 1 is predicted by the hidden state at t.
    return rows * batch.token_ids.shape[1] + columns, (rows, columns + 1)


def vocabulary_logprobs(model: Any, batch: Batch, *, bare: Any = None) -> tuple[torch.Tensor, Places]:
    """What the model expects at each token that carries loss, shape (chosen tokens, vocabulary), float32; and where.

    Rows follow each other in the order of the batch. `bare` is the model inside a data-parallel wrapper, if there is
    one; it only tells where the vocabulary head is.
    """
    import torch

    positions, places = _asked(batch)
    with head_only_at(model if bare is None else bare, positions):
        logits = model(input_ids=batch.token_ids, attention_mask=batch.attention, use_cache=False).logits
    return torch.log_softmax(logits.float(), dim=-1), places


def hidden_states(model: Any, batch: Batch, *, bare: Any = None) -> tuple[torch.Tensor, Places]:
    """What comes to the vocabulary head where the tokens that carry loss are predicted, shape (chosen tokens, width).

    Otherwise as `vocabulary_logprobs`; `head_logprobs` makes the one of the other.
    """
    positions, places = _asked(batch)
    found: list[torch.Tensor] = []

    def keep(states: torch.Tensor) -> torch.Tensor:
        found.append(states.flatten(0, -2).index_select(0, positions))
        return found[0][:1]

    with _head_sees(model if bare is None else bare, keep):
        model(input_ids=batch.token_ids, attention_mask=batch.attention, use_cache=False)
    return found[0], places


def head_logprobs(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Log-probabilities over the vocabulary, float32, that the head of `model` makes of hidden states (rows, width)."""
    import torch

    # A single token goes through the body, and what comes of it is put aside.
    one = torch.zeros((1, 1), dtype=torch.long, device=states.device)
    with _head_sees(model, lambda _: states):
        logits = model(input_ids=one, use_cache=False).logits
    return torch.log_softmax(logits.float(), dim=-1)


LOGITS = 2**23
"""Of how many logits (places × vocabulary) a loss over whole distributions is computed at once: 32 MiB in float32."""


def in_parts(model: Any, compute: Callable[..., torch.Tensor], *rows: torch.Tensor) -> torch.Tensor:
    """The sum of `compute` over parts of these tensors of equal length, a scalar; no part asks for more than LOGITS.

    What a part holds meanwhile is computed again for the gradient instead of kept.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    size = max(1, LOGITS // model.get_output_embeddings().weight.shape[0])
    total = torch.zeros((), device=rows[0].device)
    for start in range(0, len(rows[0]), size):
        total = total + checkpoint(compute, *(tensor[start : start + size] for tensor in rows), use_reentrant=False)
    return total


def chosen_logprobs(model: Any, batch: Batch, *, bare: Any = None) -> tuple[torch.Tensor, Places]:
    """Log-probabilities of the tokens that carry loss, shape (chosen tokens,), float32; and where these stand.

    `bare` is as for `vocabulary_logprobs`.
    """
    logprobs, places = vocabulary_logprobs(model, batch, bare=bare)
    return logprobs.gather(-1, batch.token_ids[places].unsqueeze(-1)).squeeze(-1), places


def example_logprobs(model: Any, batch: Batch, *, bare: Any = None) -> torch.Tensor:
    """Summed log-probability of each example's chosen tokens; shape (examples,), float32. Their weights do not enter.

    `bare` is as for `vocabulary_logprobs`.
    """
    logprobs, (rows, _) = chosen_logprobs(model, batch, bare=bare)
    return _sums(logprobs, rows, len(batch.token_ids))


def _sums(values: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
    return values.new_zeros(count).index_add(0, groups, values)


def weighted_sft(model: Any, batch: Batch, *, bare: Any = None) -> torch.Tensor:
    """Weighted supervised fine-tuning: Σ wᵢ·(−log pᵢ) / Σ wᵢ over the tokens that carry loss; a scalar.

    With weights of 0 and 1 this is the mean loss on the chosen tokens, as in ReST-EM (Singh et al. 2023, eq. 3).
    """
    logprobs, places = chosen_logprobs(model, batch, bare=bare)
    weights = batch.weights[places]
    return -(weights * logprobs).sum() / weights.sum()


def divergence(own: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """KL(base || policy) at each place, in nats; shape (places,). By it a policy is regularised to its base on tasks
    other than the one to be learned (Li & Hoiem 2016, Learning without Forgetting).

    `own` and `base` are log-probabilities of shape (places, vocabulary).
    """
    from torch.nn.functional import kl_div

    return kl_div(own, base, log_target=True, reduction="none").sum(-1)


def minor_sft(
    logprobs: torch.Tensor, weights: torch.Tensor, examples: torch.Tensor, base: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """MinorSFT (Xie et al. 2024, eq. 11): the further an example has left the base, the less it pulls. Loss and drift.

    `logprobs`, `weights` and `examples` (the row of each) are those of the chosen tokens, `base` (examples,) the summed
    log-probabilities that the base gave. The gradient is that of Σ −log pᵢ times (2/m)·σ(−β·log(π/π_base)), a factor
    held constant, averaged over the examples; m is the number of an example's chosen tokens. The drift is the mean of
    (1/m)·log(π/π_base), in nats a token.
    """
    import torch

    count = len(base)
    tokens = torch.bincount(examples, minlength=count).clamp(min=1)
    ratio = _sums(logprobs.detach(), examples, count) - base
    factor = 2 / tokens * torch.sigmoid(-beta * ratio)
    loss = -(factor[examples] * weights * logprobs).sum() / count
    return loss, (ratio / tokens).mean()


def dpo(ratios: torch.Tensor, base: torch.Tensor, weights: torch.Tensor, beta: float) -> torch.Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7), weighted as in ScPO; a scalar, the mean over pairs.

    `ratios` and `base` have the shape (pairs, 2): summed log-probabilities of the better and the worse side, by the
    policy and by the base. w·−log σ(β·(log(π⁺/π⁺_base) − log(π⁻/π⁻_base))).
    """
    from torch.nn.functional import logsigmoid

    better, worse = (ratios - base).unbind(-1)
    return -(weights * logsigmoid(beta * (better - worse))).mean()


def nll(better: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean over pairs of w·−log π⁺ / |y⁺| (Prasad et al. 2024, ScPO, eq. 1), which keeps what is preferred likely.

    Better sides' summed log-probabilities, numbers of tokens and weights of the pairs, all of shape (pairs,).
    """
    return -(weights * better / tokens).mean()


def kto(
    ratios: torch.Tensor,
    mismatched: torch.Tensor,
    desirable: torch.Tensor,
    weights: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, eq. 8): the loss and its reference point z.

    `ratios` (examples,) are log(π/π_base); `desirable` is boolean; `weights` hold λ. z estimates KL(π || π_base) by the
    mean of log(π/π_base) over `mismatched` pairs (a prompt with the answer to another), not below 0, and carries no
    gradient. A desirable example costs λ·(1 − σ(β·(ratio − z))), an undesirable one λ·(1 − σ(β·(z − ratio))).
    """
    import torch

    reference = mismatched.detach().mean().clamp(min=0)
    gain = torch.where(desirable, ratios - reference, reference - ratios)
    return (weights * (1 - torch.sigmoid(beta * gain))).mean(), reference


def soft_distillation(
    scores: torch.Tensor, teacher: torch.Tensor, sizes: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Σ w·KL(teacher || student) / Σ w over choices, in nats; a scalar.

    `sizes` (choices,) says how many candidates each choice has; `scores` and `teacher` (candidates,) are, choice after
    choice, the student's summed log-probabilities and the teacher's probabilities. The student's distribution is the
    softmax of its scores over the candidates of a choice, as the policy reads them.
    """
    import torch

    divergences = []
    for own, target in zip(scores.split(sizes.tolist()), teacher.split(sizes.tolist()), strict=True):
        # xlogy, since what the teacher rules out adds nothing.
        divergences.append((torch.xlogy(target, target) - target * own.log_softmax(-1)).sum())
    return (weights * torch.stack(divergences)).sum() / weights.sum()
