"""From the name of an objective to its loss: supervised fine-tuning, also with KL regularisation to the base, and DPO.

What no table shows to help is in `experimental`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainers.config import JobConfig
from trainers.data.records import Pair, Record, Regularised
from trainers.objectives import branching, losses
from trainers.objectives.base import Comparing, Cost, Inputs, Item, Objective, base_logprobs
from trainers.objectives.branching import Branched
from trainers.objectives.experimental import Kto, MinorSft, SoftDistillation
from trainers.objectives.losses import Batch, collate


class Sft(Objective):
    """Weighted supervised fine-tuning."""

    def collate(self, items: Sequence[Item]) -> Inputs:
        return {"batch": collate([item.record for item in items])._asdict()}

    def mass(self, items: Sequence[Item]) -> float:
        return float(sum(sum(item.record.weights) for item in items))

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        return Cost(losses.weighted_sft(model, Batch(**inputs["batch"]), bare=bare), {})


class KLRegularisedSft(Sft):
    """Weighted supervised fine-tuning with KL regularisation to the base on other games.

    Both are parts of one mean. What the base expects is asked anew at every step, and of no more places at once than
    fit (`losses.LOGITS`): to keep a distribution over the vocabulary for each place would take a hundred times the
    room of the adapter.
    """

    measures = ("kl",)

    def collate(self, items: Sequence[Item]) -> Inputs:
        reference = [item.record.reference for item in items if isinstance(item.record, Regularised)]
        examples = [item.record.taught for item in items]
        return {
            "batch": collate([*examples, *reference])._asdict(),
            "kl": torch.tensor([False] * len(examples) + [True] * len(reference)),
        }

    def mass(self, items: Sequence[Item]) -> float:
        reference = (item.record.reference for item in items if isinstance(item.record, Regularised))
        examples = [*(item.record.taught for item in items), *reference]
        return float(sum(sum(example.weights) for example in examples))

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        batch, other = Batch(**inputs["batch"]), inputs["kl"]
        own, places = losses.hidden_states(model, batch, bare=bare)
        tokens, weights, reference = batch.token_ids[places], batch.weights[places], other[places[0]]

        def unlikely(own: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            logprobs = losses.head_logprobs(bare, own)
            return -(weights * logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)).sum()

        def apart_from(own: torch.Tensor, base: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            # The head is the base's own in both: no adapter is on it.
            ours, theirs = losses.head_logprobs(bare, torch.cat([own, base])).split([len(own), len(base)])
            return (weights * losses.divergence(ours, theirs.detach())).sum()

        taught = losses.in_parts(bare, unlikely, own[~reference], tokens[~reference], weights[~reference])
        apart = torch.zeros_like(taught)
        if other.any():
            # After the pass with a gradient, and past a data-parallel wrapper, as for KTO.
            with torch.no_grad(), bare.disable_adapter():
                base, _ = losses.hidden_states(bare, Batch(*(tensor[other] for tensor in batch)))
            apart = losses.in_parts(bare, apart_from, own[reference], base, weights[reference])
        mass = weights.sum()
        return Cost((taught + apart) / mass, {"kl": apart.detach() / mass})


class Dpo(Comparing):
    """Pairs that share their beginning, whole or step by step; where wanted, with the better side's likelihood."""

    measures = ("accuracy", "margin")
    in_trees = True

    def collate(self, items: Sequence[Item]) -> Inputs:
        pairs: list[Pair] = [item.record for item in items]
        return {
            "batch": branching.lay_out([branching.of_pair(pair) for pair in pairs])._asdict(),
            "weights": torch.tensor([pair.weight for pair in pairs]),
            "base": base_logprobs(items),
        }

    def compared(self, model: Any, inputs: Inputs, bare: Any) -> torch.Tensor:
        return branching.sequence_logprobs(model, Branched(**inputs["batch"]), bare=bare).view(-1, 2)

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        policy, base, weights = self.compared(model, inputs, bare), inputs["base"], inputs["weights"]
        loss = losses.dpo(policy, base, weights, self.config.beta)
        if self.config.nll_weight:
            tokens = inputs["batch"]["lengths"].view(-1, 2)[:, 0]
            loss = loss + self.config.nll_weight * losses.nll(policy[:, 0], tokens, weights)
        better, worse = (policy.detach() - base).unbind(-1)
        return Cost(loss, {"accuracy": (better > worse).float().mean(), "margin": (better - worse).mean()})


OBJECTIVES: dict[str, type[Objective]] = {
    "sft": Sft,
    "minor_sft": MinorSft,
    "soft_distill": SoftDistillation,
    "dpo": Dpo,
    "step_dpo": Dpo,
    "kto": Kto,
}


def objective_of(config: JobConfig, records: Sequence[Record] = ()) -> Objective:
    """The objective of a job with these records."""
    if any(isinstance(record, Regularised) for record in records):
        return KLRegularisedSft(config)
    return OBJECTIVES[config.objective](config)
