"""Packed batches give what padded ones give, without the padding, and no example sees another."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.data.examples import Example
from trainers.data.records import Pair
from trainers.objectives.branching import lay_out, of_pair, sequence_logprobs
from trainers.objectives.losses import chosen_logprobs, collate, weighted_sft
from trainers.training import packing

LENGTHS = (17, 40, 5, 28)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager").train()


def batch_of(lengths: tuple[int, ...] = LENGTHS, first: int = 3) -> list[Example]:
    made = []
    for number, length in enumerate(lengths):
        start = first if number == 0 else 3 + number
        ids = [(start * 31 + at * at * 7) % 512 for at in range(length)]
        weights = [0.5 + number if at and at % 3 == 0 else 0.0 for at in range(length)]
        made.append(Example(token_ids=ids, weights=weights, episode=f"e{number}", task="t"))
    return made


def gradients(model: Any) -> list[torch.Tensor]:
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_loss_and_gradient_are_those_of_the_padded_batch(model: Any, attention: str) -> None:
    batch = collate(batch_of())
    padded = weighted_sft(model, batch)
    padded.backward()
    expected = gradients(model)
    with packing.packed(model, attention):
        loss = weighted_sft(model, batch)
        loss.backward()
    assert loss.item() == pytest.approx(padded.item(), rel=1e-6)
    for ours, theirs in zip(gradients(model), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_examples_do_not_see_each_other(model: Any, attention: str) -> None:
    own = sum(1 for weight in batch_of()[0].weights if weight)
    with torch.no_grad(), packing.packed(model, attention):
        before, _ = chosen_logprobs(model, collate(batch_of()))
        after, _ = chosen_logprobs(model, collate(batch_of(first=90)))
        alone, _ = chosen_logprobs(model, collate(batch_of()[1:2]))
    assert not torch.allclose(before[:own], after[:own], atol=1e-2)
    assert torch.equal(before[own:], after[own:])
    assert torch.allclose(before[own : own + len(alone)], alone, atol=1e-5)


def test_no_padding_goes_through_the_layers(model: Any) -> None:
    seen: list[torch.Size] = []
    handle = model.model.layers[0].mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    with torch.no_grad(), packing.packed(model, "eager"):
        model(**inputs_of(collate(batch_of())))
    handle.remove()
    assert seen == [(1, sum(LENGTHS), 128)]


def inputs_of(batch: Any) -> dict[str, Any]:
    return {"input_ids": batch.token_ids, "attention_mask": batch.attention, "use_cache": False}


def test_hidden_states_come_back_where_their_tokens_were(model: Any) -> None:
    batch = collate(batch_of())
    with torch.no_grad():
        padded = model(**inputs_of(batch)).logits
        with packing.packed(model, "sdpa"):
            logits = model(**inputs_of(batch)).logits
    kept = batch.attention.bool()
    assert logits.shape == padded.shape
    assert torch.allclose(logits[kept], padded[kept], atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_batches_with_a_mask_of_their_own_pass_as_they_are(model: Any, attention: str) -> None:
    better, worse = batch_of((20, 24), first=4)
    trees = lay_out([of_pair(Pair(better=better, worse=worse))])
    with torch.no_grad():
        plain = sequence_logprobs(model, trees)
        with packing.packed(model, attention):
            assert torch.allclose(sequence_logprobs(model, trees), plain, atol=1e-4)
            ids = torch.tensor([better.token_ids])
            assert model(input_ids=ids, use_cache=False).logits.shape == (1, 20, 512)


def test_activations_may_be_computed_again(model: Any) -> None:
    batch = collate(batch_of())
    with packing.packed(model, "eager"):
        weighted_sft(model, batch).backward()
        expected = gradients(model)
        model.activation_checkpointing_enable({"use_reentrant": False})
        weighted_sft(model, batch).backward()
        model.activation_checkpointing_disable()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients(model), expected, strict=True))


def test_flash_attention_gets_all_examples_in_one_call(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[int]] = []

    def varlen(q: Any, k: Any, v: Any, ends: Any, key_ends: Any, longest: int, key_longest: int, **options: Any) -> Any:
        assert q.shape == (sum(LENGTHS), 4, 32) and k.shape == v.shape == (sum(LENGTHS), 2, 32)
        assert ends.dtype is torch.int32 and torch.equal(ends, key_ends) and longest == key_longest == max(LENGTHS)
        assert options.pop("causal") and options.pop("softmax_scale") == pytest.approx(32**-0.5) and not options
        calls.append(ends.tolist())
        parts = [part.transpose(0, 1).unsqueeze(0) for part in (q, k, v)]
        return packing._sdpa(*parts, 32**-0.5, ends.diff().tolist()).squeeze(0)

    package = ModuleType("flash_attn")
    package.flash_attn_varlen_func = varlen  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    batch = collate(batch_of())
    with torch.no_grad():
        padded = weighted_sft(model, batch).item()
        with packing.packed(model, "flash"):
            assert weighted_sft(model, batch).item() == pytest.approx(padded, rel=1e-5)
    assert calls == [[0, 17, 57, 62, 90]] * 4


def test_no_mask_outlives_the_training(model: Any) -> None:
    with torch.no_grad(), packing.packed(model, "eager"):
        model(**inputs_of(collate(batch_of())))
        assert packing.future.cache_info().currsize == len(LENGTHS), "one for all layers"
    assert packing.future.cache_info().currsize == 0


def test_the_model_is_afterwards_as_before(model: Any) -> None:
    with pytest.raises(RuntimeError, match="stop"), packing.packed(model, "sdpa"):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == "eager"
    assert not model.model._forward_hooks and not model.model._forward_pre_hooks


@pytest.mark.parametrize(
    ("settings", "longest", "expected"),
    [
        ({}, 5000, True),
        ({"sliding_window": 100}, 100, True),
        ({"sliding_window": 100}, 101, False),
        ({"sliding_window": 100, "layer_types": ["full_attention"]}, 101, True),
        ({"layer_types": ["full_attention", "sliding_attention"]}, 50, True),
        ({"layer_types": ["full_attention", "linear_attention"]}, 50, False),
    ],
)
def test_models_that_attend_otherwise_are_padded(settings: dict[str, Any], longest: int, expected: bool) -> None:
    config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(**settings))
    model = SimpleNamespace(config=config, _supports_attention_backend=True, base_model=object())
    assert (packing.why_not(model, longest) is None) is expected
    model._supports_attention_backend = False
    assert packing.why_not(model, longest) is not None
