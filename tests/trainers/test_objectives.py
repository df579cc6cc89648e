"""The loss equals the plain one, at less cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.examples import Example
from trainers.objectives import chosen_logprobs, collate, head_only_at, weighted_sft


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
    logprobs, weights = chosen_logprobs(model, collate(EXAMPLES))
    handle.remove()
    assert seen == [(4, 512)]
    assert weights.tolist() == [1, 2, 1, 0.5] and (logprobs < 0).all()


def test_the_head_is_whole_again_afterwards_even_after_an_error(model: Any) -> None:
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(RuntimeError, match="stop"), head_only_at(model, torch.tensor([0])):
        raise RuntimeError("stop")
    assert model(input_ids=ids).logits.shape == (1, 3, 512)
