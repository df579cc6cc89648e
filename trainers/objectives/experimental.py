"""Objectives beside supervised fine-tuning and DPO: KTO, MinorSFT, and distillation of the policy that played.

Experimental: no table shows yet that they help.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from trainers.data.examples import Example
from trainers.data.records import Distilled, Judged
from trainers.objectives import branching, losses
from trainers.objectives.base import Comparing, Cost, Inputs, Item, Objective, base_logprobs
from trainers.objectives.branching import Branched
from trainers.objectives.losses import Batch, collate


class MinorSft(Comparing):
    """Supervised fine-tuning that pulls less at what has left the base already."""

    measures = ("drift",)

    def collate(self, items: Sequence[Item]) -> Inputs:
        return {"batch": collate([item.record for item in items])._asdict(), "base": base_logprobs(items)}

    def compared(self, model: Any, inputs: Inputs, bare: Any) -> torch.Tensor:
        return losses.example_logprobs(model, Batch(**inputs["batch"]), bare=bare).unsqueeze(-1)

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        batch = Batch(**inputs["batch"])
        logprobs, places = losses.chosen_logprobs(model, batch, bare=bare)
        base = inputs["base"].squeeze(-1)
        loss, drift = losses.minor_sft(logprobs, batch.weights[places], places[0], base, self.config.beta)
        return Cost(loss, {"drift": drift})


class SoftDistillation(Objective):
    """The teacher's distribution over the candidates of each step."""

    measures = ("divergence",)
    in_trees = True

    def collate(self, items: Sequence[Item]) -> Inputs:
        records: list[Distilled] = [item.record for item in items]
        choices = [(record.example.weights[choice.at], choice) for record in records for choice in record.choices]
        return {
            "batch": branching.lay_out([branching.of_choices(record) for record in records])._asdict(),
            "teacher": torch.tensor([share for _, choice in choices for share in choice.probabilities]),
            "sizes": torch.tensor([len(choice.candidates) for _, choice in choices]),
            "weights": torch.tensor([weight for weight, _ in choices]),
        }

    def mass(self, items: Sequence[Item]) -> float:
        return float(sum(item.record.example.weights[choice.at] for item in items for choice in item.record.choices))

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        scores = branching.sequence_logprobs(model, Branched(**inputs["batch"]), bare=bare)
        loss = losses.soft_distillation(scores, inputs["teacher"], inputs["sizes"], inputs["weights"])
        return Cost(loss, {"divergence": loss.detach()})


class Kto(Comparing):
    """Desirable and undesirable sequences, each by itself."""

    measures = ("reference",)

    def prepare(self, records: Sequence[Any]) -> list[Item]:
        partners = rotated([record.example.task for record in records])
        return [
            Item(record, mismatched=mismatch(record.example, records[partner].example))
            for record, partner in zip(records, partners, strict=True)
        ]

    def collate(self, items: Sequence[Item]) -> Inputs:
        records: list[Judged] = [item.record for item in items]
        kinds = (self.config.undesirable_weight, self.config.desirable_weight)
        return {
            "batch": collate([record.example for record in records])._asdict(),
            "mismatched": collate([item.mismatched for item in items if item.mismatched is not None])._asdict(),
            "desirable": torch.tensor([record.desirable for record in records]),
            "weights": torch.tensor([record.weight * kinds[record.desirable] for record in records]),
            "base": base_logprobs(items),
        }

    def compared(self, model: Any, inputs: Inputs, bare: Any) -> torch.Tensor:
        own = losses.example_logprobs(model, Batch(**inputs["batch"]), bare=bare)
        # After the pass with a gradient, since autocast keeps its first copy of a weight, which must have one; and past
        # a data-parallel wrapper, which expects every pass to have one.
        with torch.no_grad():
            other = losses.example_logprobs(bare, Batch(**inputs["mismatched"]))
        return torch.stack([own, other], dim=-1)

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        own, other = (self.compared(model, inputs, bare) - inputs["base"]).unbind(-1)
        loss, reference = losses.kto(own, other, inputs["desirable"], inputs["weights"], self.config.beta)
        return Cost(loss, {"reference": reference})


def rotated(tasks: Sequence[str]) -> list[int]:
    """For each index that of a partner, each once, of another task wherever no task has more than half of all.

    Among indices sorted by task, a step as long as the largest task leaves every task.
    """
    order = sorted(range(len(tasks)), key=lambda index: (tasks[index], index))
    step = min(Counter(tasks).most_common(1)[0][1], len(tasks) - 1)
    partner = {index: order[(place + step) % len(order)] for place, index in enumerate(order)}
    return [partner[index] for index in range(len(tasks))]


def mismatch(prompt: Example, answer: Example) -> Example:
    """The prompt of one example with the answer of another: what stands before the first chosen token, and after it.

    Cut off where the longer of the two examples ends, so that an estimate needs no more memory than training.
    """
    asked, answered = prompt.spans[0][0], answer.spans[0][0]
    end = max(len(prompt), len(answer))
    return Example(
        token_ids=[*prompt.token_ids[:asked], *answer.token_ids[answered:]][:end],
        weights=[*([0.0] * asked), *answer.weights[answered:]][:end],
        episode=answer.episode,
        task=prompt.task,
    )
