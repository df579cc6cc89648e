"""Passes with dropout are those of the model with some of what its layers hand on left out, by a seed."""

from __future__ import annotations

from statistics import pvariance
from typing import Any

import pytest
import torch

from agentlab.engines.dropout import dropped
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import UnsupportedModel

TOKENS, SPANS = list(range(40, 80)), [(5, 20), (30, 40)]


def passes(engine: TransformersEngine, probability: float, seeds: range = range(4)) -> list[float]:
    return [engine.logprob_with_dropout(TOKENS, SPANS, probability=probability, seed=seed) for seed in seeds]


def test_without_dropout_passes_agree_and_with_more_of_it_they_disagree_more(engine: TransformersEngine) -> None:
    assert passes(engine, 0.0) == [engine.logprob(TOKENS, SPANS)] * 4 and pvariance(passes(engine, 0.0)) == 0
    spread = [pvariance(passes(engine, probability, range(12))) for probability in (0.01, 0.1, 0.4)]
    assert 0 < spread[0] < spread[1] < spread[2]


def test_a_seed_gives_the_same_pass_and_touches_no_other_chance(engine: TransformersEngine) -> None:
    torch.manual_seed(3)
    state, plain = torch.get_rng_state(), engine.logprob(TOKENS, SPANS)
    first = passes(engine, 0.1)
    torch.rand(7)
    assert passes(engine, 0.1) == first and len(set(first)) == 4
    torch.manual_seed(3)
    passes(engine, 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    assert engine.logprob(TOKENS, SPANS) == plain, "afterwards nothing is dropped"


class Layered(torch.nn.Module):
    """Two layers that hand on what they get, one of them in a tuple, as models do."""

    class Config:
        num_hidden_layers = 2

    class InTuple(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, str]:
            return hidden, "weights"

    def __init__(self) -> None:
        super().__init__()
        self.config = self.Config()
        self.blocks = torch.nn.ModuleList([torch.nn.Identity(), self.InTuple()])

    def forward(self, hidden: torch.Tensor) -> Any:
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


def test_a_share_is_dropped_after_every_layer_and_the_rest_scaled_to_the_same_mean() -> None:
    model = Layered()
    with dropped(model, 0.2, seed=0):
        hidden, weights = model(torch.ones(100_000))
    assert weights == "weights"
    assert sorted({round(value, 4) for value in hidden.tolist()}) == [0.0, 1.5625]  # 1 / 0.8², kept by both
    assert float((hidden == 0).float().mean()) == pytest.approx(1 - 0.8**2, abs=0.01)
    assert float(hidden.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(model(torch.ones(9))[0], torch.ones(9))


def test_a_failure_leaves_nothing_on_the_model() -> None:
    model = Layered()
    with pytest.raises(KeyboardInterrupt), dropped(model, 0.5, seed=0):
        raise KeyboardInterrupt
    assert torch.equal(model(torch.ones(9))[0], torch.ones(9))


def test_a_model_without_such_layers_is_refused_in_one_line() -> None:
    model = Layered()
    model.config.num_hidden_layers = 7
    with pytest.raises(UnsupportedModel, match="no list of 7 decoder layers") as raised, dropped(model, 0.5, seed=0):
        pass
    assert "\n" not in str(raised.value)
