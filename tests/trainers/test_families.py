"""Jobs on models of the usual families learn from what each example means by itself, or are refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import job
from trainers.data.examples import Example
from trainers.errors import TrainersError, UnsupportedModel
from trainers.objectives.losses import chosen_logprobs, collate
from trainers.training.weights import reference

MakeModel = Callable[..., Path]


def example(length: int, first: int = 3) -> Example:
    ids = [first] + [3 + (first * 31 + at * at * 7) % 380 for at in range(1, length)]
    weights = [1.0 if at and at % 3 else 0.0 for at in range(length)]
    return Example(token_ids=ids, weights=weights, episode=f"e{first}", task="t")


EXAMPLES = [example(17, 5), example(30, 7)]


@pytest.mark.parametrize(
    ("family", "packed"), [("gpt2", True), ("gpt_neox", True), ("opt", False), ("nemotron", False)]
)
def test_a_job_learns_from_what_each_example_means_alone_and_says_whether_it_packed(
    tmp_path: Path, make_model: MakeModel, family: str, packed: bool
) -> None:
    """GPT-2 and OPT come with dropout of their own, a tenth of everything, which is not how they play."""
    from transformers import AutoModelForCausalLM

    base = make_model(family)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval()
    with torch.no_grad():
        alone = torch.cat([chosen_logprobs(model, collate([one]))[0] for one in EXAMPLES])
    job.create(tmp_path, job.JobConfig(base=reference("tiny", base), epochs=1, dtype="float32"), EXAMPLES)
    report = job.run(tmp_path).report
    assert report.losses[0] == pytest.approx(-float(alone.mean()), abs=1e-4)
    assert report.packed is packed and bool(report.why_padded) is not packed


@pytest.mark.parametrize("family", ["gemma2", "gpt_oss", "gemma3", "llama"])
def test_a_job_with_long_examples_is_trained_with_the_attention_that_its_model_has(
    tmp_path: Path, make_model: MakeModel, family: str
) -> None:
    base = make_model(family, max_position_embeddings=1024)
    job.create(tmp_path, job.JobConfig(base=reference("tiny", base), epochs=1, dtype="float32"), [example(600)])
    fused = family in ("gemma3", "llama")
    assert job.run(tmp_path, device="cpu").report.attention == ("sdpa" if fused else "eager")


@pytest.mark.parametrize("attention", ["sdpa", "flash"])
def test_an_attention_that_a_model_does_not_have_is_refused_in_a_line(
    tmp_path: Path, make_model: MakeModel, attention: Any
) -> None:
    config = job.JobConfig(base=reference("tiny", make_model("gemma2")), attention=attention, device="cpu")
    job.create(tmp_path, config, [example(17)])
    with pytest.raises(UnsupportedModel, match=attention) as error:
        job.run(tmp_path)
    assert "\n" not in str(error.value)


REFUSED: dict[str, tuple[str, list[Example], dict[str, Any]]] = {
    "the head": ("lm_head", [example(17)], {"targets": ["lm_head"]}),
    "embeddings": ("embed_tokens", [example(17)], {"targets": ["q_proj", "embed_tokens"]}),
    "no such layer": ("no_such_layer", [example(17)], {"targets": ["no_such_layer"]}),
    "no linear layer": ("norm", [example(17)], {"targets": ["norm"]}),
    "no positions": ("positions for 512", [example(513)], {}),
    "another tokenizer": ("another tokenizer", [example(17, first=384)], {}),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("tied", [False, True])
def test_what_cannot_be_trained_is_refused_in_a_line_before_the_first_step(
    tmp_path: Path, make_model: MakeModel, what: str, tied: bool
) -> None:
    names, examples, settings = REFUSED[what]
    steps: list[int] = []
    config = job.JobConfig(base=reference("tiny", make_model("llama", tied=tied)), **settings)
    job.create(tmp_path / "job", config, examples)
    with pytest.raises(TrainersError, match=names) as error:
        job.run(tmp_path / "job", progress=lambda done, total, metrics: steps.append(done))
    assert "\n" not in str(error.value) and not steps and not (tmp_path / "job" / "adapter").exists()
