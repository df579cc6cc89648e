"""A batch means what its examples mean alone, packed or padded or in a tree, or the model is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import job
from trainers.config import BaseRef
from trainers.data.examples import Example
from trainers.data.records import Pair
from trainers.errors import OutOfMemory, UnsupportedModel
from trainers.objectives import dispatch
from trainers.objectives.losses import chosen_logprobs, collate
from trainers.training import packing, proof

PACKED = ("gemma3", "gpt2", "gpt_neox", "llama", "mistral", "phi3", "qwen2", "qwen3")
PADDED = ("gemma2", "nemotron", "opt")

MakeModel = Callable[..., Path]


@pytest.fixture(scope="module")
def made(make_model: MakeModel) -> Callable[[str], Any]:
    """Loads the tiny model of a family, once."""
    from transformers import AutoModelForCausalLM

    models: dict[str, Any] = {}

    def load(family: str) -> Any:
        if family not in models:
            models[family] = AutoModelForCausalLM.from_pretrained(make_model(family), attn_implementation="eager")
        return models[family].eval()

    return load


def example(length: int, first: int = 3) -> Example:
    ids = [first] + [3 + (first * 31 + at * at * 7) % 380 for at in range(1, length)]
    weights = [1.0 if at and at % 3 else 0.0 for at in range(length)]
    return Example(token_ids=ids, weights=weights, episode=f"e{first}", task="t")


def alone(model: Any, examples: list[Example]) -> torch.Tensor:
    return torch.cat([chosen_logprobs(model, collate([one]))[0] for one in examples])


@pytest.mark.parametrize("family", [*PACKED, *PADDED])
def test_a_batch_gives_what_its_examples_give_alone_packed_or_padded(made: Callable[[str], Any], family: str) -> None:
    model, examples = made(family), [example(17, 5), example(40, 7), example(9, 11)]
    why = proof.why_not_packed(model, "eager", examples, nullcontext)
    assert (why is None) is (family in PACKED), why
    with torch.no_grad(), packing.packed(model, "eager") if why is None else nullcontext([]) as rows:
        together = chosen_logprobs(model, collate(examples))[0]
    assert rows == ([66] if why is None else [])
    assert torch.allclose(together, alone(model, examples), atol=1e-4)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", ["mistral", "gemma3", "phi3-window", "qwen2-window"])
def test_beyond_its_window_a_model_is_padded_and_takes_no_trees(made: Callable[[str], Any], family: str) -> None:
    model, long = made(family), [example(150, 5), example(20, 7)]
    assert "see 128 tokens" in str(proof.why_not_packed(model, "eager", long, nullcontext))
    assert torch.allclose(chosen_logprobs(model, collate(long))[0], alone(model, long), atol=1e-4)
    pairs = [Pair(better=long[0], worse=long[1])]
    with pytest.raises(UnsupportedModel, match="max_tokens to at most 128") as refused:
        proof.check_model(model, objective("dpo"), pairs, nullcontext)
    assert "\n" not in str(refused.value)
    proof.check_model(model, objective("sft"), long, nullcontext)


def objective(name: str) -> dispatch.Objective:
    base = BaseRef(name="tiny", fingerprint="f" * 64)
    return dispatch.objective_of(job.JobConfig(base=base, objective=name))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_a_model_that_knows_no_mask_of_a_tree_is_refused_for_trees_alone(
    made: Callable[[str], Any], family: str
) -> None:
    model, one, other = made(family), example(17, 5), example(12, 7)
    proof.check_model(model, objective("sft"), [one, other], nullcontext)
    assert proof.why_not_packed(model, "eager", [one, other], nullcontext) is not None
    with pytest.raises(UnsupportedModel, match="a tree of sequences"):
        proof.check_model(model, objective("dpo"), [Pair(better=one, worse=other)], nullcontext)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "opt", "nemotron"])
def test_trees_are_taken_by_models_that_read_them_right(made: Callable[[str], Any], family: str) -> None:
    proof.check_model(made(family), objective("dpo"), [Pair(better=example(17, 5), worse=example(12, 7))], nullcontext)


class Forgetful(torch.nn.Module):
    """A recurrent layer that goes on into the next example of a row, by a little."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(ids)
        return found + 1e-5 * torch.cat([torch.zeros_like(found[:, :1]), found.cumsum(1)[:, :-1]], dim=1)


def test_a_leak_too_small_for_the_tolerance_is_seen_all_the_same(make_model: MakeModel) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_model("llama"), attn_implementation="eager").eval()
    model.model.embed_tokens = Forgetful(model.model.embed_tokens)
    why = packing.why_not(model, 20)
    assert why is None
    assert proof.why_not_packed(model, "eager", [example(17, 5)], nullcontext) == "an example sees the one before it"


def test_trees_are_proved_at_the_length_that_they_will_have(made: Callable[[str], Any]) -> None:
    """The layers of GPT-Neo see a window that counts places, and that its settings name in their own way."""
    model = made("gpt_neo")
    proof.check_model(model, objective("dpo"), [Pair(better=example(60), worse=example(50))], nullcontext)
    for length in (140, 200, 400):
        with pytest.raises(UnsupportedModel, match="tree"):
            proof.check_model(model, objective("dpo"), [Pair(better=example(60), worse=example(length))], nullcontext)


def test_packing_is_proved_at_the_length_that_it_will_have(
    made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.masking_utils import create_causal_mask, sliding_window_overlay
    from transformers.models.llama import modeling_llama

    def windowed(**given: Any) -> Any:
        return create_causal_mask(**given, and_mask_function=sliding_window_overlay(128))

    monkeypatch.setattr(modeling_llama, "create_causal_mask", windowed)
    assert proof.why_not_packed(made("llama"), "eager", [example(100)], nullcontext) is None
    assert "nats" in str(proof.why_not_packed(made("llama"), "eager", [example(200)], nullcontext))


@pytest.mark.parametrize(
    ("fails", "error"),
    [(ZeroDivisionError("in its layers\n"), UnsupportedModel), (MemoryError("of 9 GB"), OutOfMemory)],
)
def test_what_a_model_raises_in_the_proof_is_one_line(
    made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, fails: Exception, error: type[Exception]
) -> None:
    model = made("llama")

    def forward(**given: Any) -> Any:
        raise fails

    monkeypatch.setattr(model, "forward", forward)
    for prove in (
        lambda: proof.check_model(model, objective("sft"), [example(20)], nullcontext),
        lambda: proof.why_not_packed(model, "eager", [example(20)], nullcontext),
    ):
        with pytest.raises(error) as raised:
            prove()
        assert "\n" not in str(raised.value)


def test_memory_that_runs_out_over_packing_is_told_as_such(
    made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, left = made("llama"), [3]
    forward = model.forward

    def full(**given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(**given)

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(OutOfMemory):
        proof.why_not_packed(model, "eager", [example(20)], nullcontext)
    assert left[0] < 0
