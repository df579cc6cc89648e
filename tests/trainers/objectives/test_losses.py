"""The losses are what the papers write, worked out by hand; and gathering first gives the same at less cost."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.data.examples import Example
from trainers.objectives.losses import (
    chosen_logprobs,
    collate,
    divergence,
    dpo,
    example_logprobs,
    head_only_at,
    kto,
    minor_sft,
    nll,
    soft_distillation,
    weighted_sft,
)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager").eval()


EXAMPLES = [
    Example(token_ids=[5, 6, 7, 8, 9], weights=[0, 0, 1, 0, 2], episode="a", task="t"),
    Example(token_ids=[9, 3, 4], weights=[0, 1, 0.5], episode="b", task="t"),
]


def test_examples_are_padded_on_the_right() -> None:
    batch = collate(EXAMPLES, pad=99)
    assert batch.token_ids.tolist() == [[5, 6, 7, 8, 9], [9, 3, 4, 99, 99]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.weights.tolist() == [[0, 0, 1, 0, 2], [0, 1, 0.5, 0, 0]]


def test_the_loss_is_the_weighted_mean_over_the_full_logits(model: Any) -> None:
    total, weights = torch.tensor(0.0), 0.0
    for example in EXAMPLES:
        logprobs = model(input_ids=torch.tensor([example.token_ids])).logits[0].log_softmax(-1)
        for at, weight in enumerate(example.weights):
            if weight:
                total = total - weight * logprobs[at - 1, example.token_ids[at]]
                weights += weight
    assert weighted_sft(model, collate(EXAMPLES)).item() == pytest.approx((total / weights).item(), rel=1e-5)


def test_gathering_first_changes_no_gradient(model: Any) -> None:
    layer = model.model.layers[0].mlp.up_proj.weight
    batch = collate(EXAMPLES)
    weighted_sft(model, batch).backward()
    ours = layer.grad.clone()
    model.zero_grad()
    logits = model(input_ids=batch.token_ids, attention_mask=batch.attention).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.token_ids[:, 1:], reduction="none")
    weights = batch.weights[:, 1:]
    ((losses * weights).sum() / weights.sum()).backward()
    assert torch.allclose(ours, layer.grad, atol=1e-6)
    model.zero_grad()


def test_a_weight_of_zero_takes_an_example_out_of_the_loss(model: Any) -> None:
    mute = EXAMPLES[1].model_copy(update={"weights": [0.0, 0.0, 0.0]})
    both = weighted_sft(model, collate([EXAMPLES[0], mute])).item()
    assert both == pytest.approx(weighted_sft(model, collate(EXAMPLES[:1])).item(), rel=1e-5)


def test_the_vocabulary_head_sees_only_what_carries_loss(model: Any) -> None:
    seen: list[tuple[int, ...]] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    logprobs, places = chosen_logprobs(model, collate(EXAMPLES))
    weights = collate(EXAMPLES).weights[places]
    handle.remove()
    assert seen == [(4, 512)]
    assert weights.tolist() == [1, 2, 1, 0.5] and (logprobs < 0).all()


def test_the_head_is_whole_again_afterwards_even_after_an_error(model: Any) -> None:
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(RuntimeError, match="stop"), head_only_at(model, torch.tensor([0])):
        raise RuntimeError("stop")
    assert model(input_ids=ids).logits.shape == (1, 3, 512)


def test_the_chosen_tokens_of_each_example_are_summed(model: Any) -> None:
    batch = collate([EXAMPLES[0], EXAMPLES[1].model_copy(update={"weights": [0.0] * 3}), EXAMPLES[1]])
    logprobs, (rows, _) = chosen_logprobs(model, batch)
    assert rows.tolist() == [0, 0, 2, 2]
    expected = [sum(logprobs[:2]).item(), 0.0, sum(logprobs[2:]).item()]
    assert example_logprobs(model, batch).tolist() == pytest.approx(expected)


def tensor(*values: Any) -> torch.Tensor:
    return torch.tensor(values)


# With beta = log 3 the sigmoid of 1 nat is 3/4, that of -1 nat 1/4.
BETA = log(3)


def test_minor_sft_pulls_less_at_an_example_that_has_gained_on_the_base() -> None:
    logprobs = tensor(-1.0, -2.0, -3.0).requires_grad_()
    # The first example has 2 tokens and lost 1 nat against the base: 2/2 * 3/4.
    # The second has 1 and gained 1: 2/1 * 1/4.
    loss, drift = minor_sft(logprobs, tensor(1.0, 1.0, 2.0), tensor(0, 0, 1), tensor(-2.0, -4.0), BETA)
    assert loss.item() == pytest.approx((0.75 * 3 + 0.5 * 2 * 3) / 2)
    assert drift.item() == pytest.approx((-1 / 2 + 1 / 1) / 2)
    loss.backward()
    # The factor is held constant: minus factor times weight, over two examples.
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.375, -0.375, -0.5])


def test_minor_sft_leaves_alone_what_has_left_the_base_far_behind() -> None:
    logprobs = tensor(-1.0, -1.0).requires_grad_()
    minor_sft(logprobs, tensor(1.0, 1.0), tensor(0, 1), tensor(-1.0, -500.0), 0.1)[0].backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-0.5, 0.0], abs=1e-12)


def test_dpo_is_the_weighted_surprise_at_the_gain_of_the_better_side() -> None:
    policy = tensor([-1.0, -4.0], [-2.0, -2.0]).requires_grad_()
    base = tensor([-2.0, -3.0], [-2.0, -2.0])
    # Gains of 1 - (-1) = 2 and 0 nats, at half the beta: sigmoids of 3/4 and 1/2.
    loss = dpo(policy, base, tensor(1.0, 0.5), BETA / 2)
    assert loss.item() == pytest.approx((-log(0.75) - 0.5 * log(0.5)) / 2)
    loss.backward()
    assert policy.grad is not None
    pulls = [BETA / 2 * 0.25 / 2, 0.5 * BETA / 2 * 0.5 / 2]
    assert policy.grad.flatten().tolist() == pytest.approx([-pulls[0], pulls[0], -pulls[1], pulls[1]])


def test_the_likelihood_of_the_better_side_counts_by_the_token() -> None:
    assert nll(tensor(-1.0, -2.0), tensor(2, 4), tensor(1.0, 0.5)).item() == pytest.approx((0.5 + 0.25) / 2)


def test_kto_measures_gains_and_losses_from_the_reference_point() -> None:
    ratios, others = tensor(2.0, 0.0, 1.0).requires_grad_(), tensor(0.5, 1.5).requires_grad_()
    loss, reference = kto(ratios, others, tensor(True, True, False), tensor(1.0, 2.0, 4.0), BETA)
    assert reference.item() == 1.0
    # One nat above the point, one below, and an undesirable one on it.
    assert loss.item() == pytest.approx((1 * (1 - 0.75) + 2 * (1 - 0.25) + 4 * (1 - 0.5)) / 3)
    loss.backward()
    assert others.grad is None and ratios.grad is not None
    slopes = [-1 * 0.75 * 0.25, -2 * 0.25 * 0.75, 4 * 0.5 * 0.5]
    assert ratios.grad.tolist() == pytest.approx([BETA * slope / 3 for slope in slopes])


def test_ktos_reference_point_is_never_below_zero() -> None:
    loss, reference = kto(tensor(1.0), tensor(-3.0, 1.0), tensor(True), tensor(1.0), BETA)
    assert (reference.item(), loss.item()) == (0.0, pytest.approx(0.25))


def test_the_divergence_from_the_base_is_measured_at_each_place() -> None:
    base = tensor(0.5, 0.5, 0.25, 0.75).log().view(2, 2)
    own = tensor(0.8, 0.2, 0.25, 0.75).log().view(2, 2).requires_grad_()
    apart = divergence(own, base)
    assert apart.tolist() == pytest.approx([0.5 * log(0.5 / 0.8) + 0.5 * log(0.5 / 0.2), 0.0], abs=1e-7)
    apart.sum().backward()
    assert own.grad is not None
    # What the base never says pulls at nothing.
    assert own.grad.flatten().tolist() == pytest.approx([-0.5, -0.5, -0.25, -0.75])


def test_soft_distillation_is_the_divergence_from_the_teacher_over_each_choice() -> None:
    # Two candidates each; the student's scores need not add up: 1 : 1, and 1 : 3 far away from certainty.
    scores = tensor(-2.0, -2.0, -5.0, -5.0 + log(3)).requires_grad_()
    loss = soft_distillation(scores, tensor(0.25, 0.75, 0.0, 1.0), tensor(2, 2), tensor(1.0, 3.0))
    first = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)
    assert loss.item() == pytest.approx((1 * first + 3 * -log(0.75)) / 4)
    loss.backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([0.25 / 4, -0.25 / 4, 3 * 0.25 / 4, 3 * -0.25 / 4])


def test_a_student_that_thinks_like_its_teacher_has_nothing_to_learn() -> None:
    scores = tensor(log(2.0), log(6.0), log(1.0))
    assert soft_distillation(scores, tensor(0.25, 0.75, 1.0), tensor(2, 1), tensor(1.0, 1.0)).item() == pytest.approx(
        0.0, abs=1e-7
    )
