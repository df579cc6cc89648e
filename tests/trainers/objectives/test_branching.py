"""Sequences that share a beginning score as they do by themselves, and the beginning is run once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.data.examples import Example
from trainers.data.records import Choice, Distilled, Pair
from trainers.objectives.branching import lay_out, of_choices, of_pair, sequence_logprobs
from trainers.objectives.losses import collate, example_logprobs


def example(ids: list[int], *chosen: int) -> Example:
    return Example(token_ids=ids, weights=[float(at in chosen) for at in range(len(ids))], episode="e", task="t")


PAIRS = [
    Pair(better=example([5, 6, 7, 8, 9, 4], 3, 4), worse=example([5, 6, 7, 8, 2, 3, 1, 9], 3, 4, 5, 7)),
    Pair(better=example([5, 9, 9], 1, 2), worse=example([5, 8], 1)),
]
CHOSEN = Distilled(
    example=example([5, 6, 7, 8, 9, 3], 2, 3, 5),
    choices=[
        Choice(at=2, candidates=[[7, 8], [7, 1, 2], [4]], probabilities=[0.5, 0.25, 0.25]),
        Choice(at=5, candidates=[[3], [3, 4, 5]], probabilities=[0.5, 0.5]),
    ],
)


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=request.param).eval()


def alone(model: Any, item: Example) -> float:
    with torch.no_grad():
        return float(example_logprobs(model, collate([item])))


def test_the_sides_of_pairs_score_as_they_do_alone(model: Any) -> None:
    batch = lay_out([of_pair(pair) for pair in PAIRS], pad=77)
    assert batch.lengths.tolist() == [2, 4, 2, 1]
    expected = [alone(model, side) for pair in PAIRS for side in (pair.better, pair.worse)]
    assert sequence_logprobs(model, batch).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_pair_runs_what_both_sides_begin_with_once() -> None:
    # 4 tokens in common, then 1 and 3 that something follows.
    assert len(of_pair(PAIRS[0])) == 4 + 1 + 3


def test_candidates_score_as_if_each_followed_the_transcript_alone(model: Any) -> None:
    batch = lay_out([of_choices(CHOSEN), of_choices(CHOSEN.model_copy(update={"choices": CHOSEN.choices[:1]}))])
    ids = CHOSEN.example.token_ids
    expected = [
        alone(model, example([*ids[: choice.at], *candidate], *range(choice.at, choice.at + len(candidate))))
        for choice in [*CHOSEN.choices, CHOSEN.choices[0]]
        for candidate in choice.candidates
    ]
    assert sequence_logprobs(model, batch).tolist() == pytest.approx(expected, rel=1e-4)


def test_the_candidate_that_was_played_adds_nothing_to_run() -> None:
    # Five of the transcript, 1 of the candidate [7, 1, 2], 3 and 4 of [3, 4, 5]; 7 is the transcript's.
    assert sorted(of_choices(CHOSEN).tokens) == [1, 3, 4, 5, 6, 7, 8, 9]


def test_the_vocabulary_head_sees_each_place_that_is_asked_once(model: Any) -> None:
    seen: list[tuple[int, ...]] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda head, inputs, out: seen.append(out.shape))
    sequence_logprobs(model, lay_out([of_choices(CHOSEN)]))
    handle.remove()
    # After [5, 6], after 7 there, after 1; after 9, after 3, after 4.
    assert seen == [(6, 512)]


def test_the_gradient_is_that_of_separate_passes(model: Any) -> None:
    weight = model.model.layers[0].mlp.up_proj.weight
    signs = torch.tensor([1.0, -1.0])
    (sequence_logprobs(model, lay_out([of_pair(PAIRS[0])])) * signs).sum().backward()
    ours = weight.grad.clone()
    model.zero_grad()
    (example_logprobs(model, collate([PAIRS[0].better, PAIRS[0].worse])) * signs).sum().backward()
    assert torch.allclose(ours, weight.grad, atol=1e-5)
    model.zero_grad()
