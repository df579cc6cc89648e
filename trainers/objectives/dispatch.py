"""From the name of an objective to its loss: how its records become batches, what is asked of the base, what it costs.

An objective sees the whole job once, in `prepare`, and from then on the items of one batch at a time. Those that
compare with the base get its log-probabilities with every item (see `trainers.training.baseline`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from trainers.config import JobConfig
from trainers.data.examples import Example
from trainers.data.records import Distilled, Held, Judged, Pair, Record
from trainers.objectives import branching, losses
from trainers.objectives.branching import Branched
from trainers.objectives.losses import Batch, collate

Inputs = dict[str, Any]
"""Tensors by name, in nested dictionaries, as transformers' Trainer moves them to a device."""


class Item(NamedTuple):
    """A record as a batch holds it.

    `base` are the log-probabilities of the base, as many as `Objective.compared` gives for a record. `mismatched` is
    KTO's: the prompt of this record with the answer of another.
    """

    record: Any
    base: tuple[float, ...] = ()
    mismatched: Example | None = None


class Cost(NamedTuple):
    """The loss of a batch, a scalar, and what was measured beside it."""

    loss: torch.Tensor
    measures: dict[str, torch.Tensor]


class Objective(ABC):
    """What one kind of job learns; `bare` is everywhere the model inside a data-parallel wrapper."""

    measures: ClassVar[tuple[str, ...]] = ()
    """The names of what is measured beside the loss."""

    in_trees: ClassVar[bool] = False
    """Whether records are laid into trees, in which a common beginning stands once, instead of into rows."""

    def __init__(self, config: JobConfig) -> None:
        self.config = config

    def prepare(self, records: Sequence[Any]) -> list[Item]:
        """The items of a whole job."""
        return [Item(record) for record in records]

    @abstractmethod
    def collate(self, items: Sequence[Item]) -> Inputs:
        """The items of one batch as tensors."""

    def mass(self, items: Sequence[Item]) -> float:
        """What the loss of these items is divided by, so that the losses of a batch's parts add up to that of it all.

        Only KTO's do not to the last bit: each part estimates its own reference point.
        """
        return float(len(items))

    @abstractmethod
    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        """The loss of a batch."""


class Comparing(Objective):
    """An objective whose loss needs what the base makes of every record."""

    @abstractmethod
    def compared(self, model: Any, inputs: Inputs, bare: Any) -> torch.Tensor:
        """The log-probabilities that policy and base are compared by; shape (items, as many as each needs)."""


class Sft(Objective):
    """Weighted supervised fine-tuning."""

    def collate(self, items: Sequence[Item]) -> Inputs:
        return {"batch": collate([item.record for item in items])._asdict()}

    def mass(self, items: Sequence[Item]) -> float:
        return float(sum(sum(item.record.weights) for item in items))

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        return Cost(losses.weighted_sft(model, Batch(**inputs["batch"]), bare=bare), {})


class HoldingSft(Sft):
    """Weighted supervised fine-tuning, while elsewhere the policy is held to its base.

    Both are parts of one mean. What the base expects is asked anew at every step, and of no more places at once than
    fit (`losses.LOGITS`): to keep a distribution over the vocabulary for each place would take a hundred times the
    room of the adapter.
    """

    measures = ("held",)

    def collate(self, items: Sequence[Item]) -> Inputs:
        elsewhere = [item.record.elsewhere for item in items if isinstance(item.record, Held)]
        examples = [item.record.taught for item in items]
        return {
            "batch": collate([*examples, *elsewhere])._asdict(),
            "held": torch.tensor([False] * len(examples) + [True] * len(elsewhere)),
        }

    def mass(self, items: Sequence[Item]) -> float:
        elsewhere = (item.record.elsewhere for item in items if isinstance(item.record, Held))
        examples = [*(item.record.taught for item in items), *elsewhere]
        return float(sum(sum(example.weights) for example in examples))

    def cost(self, model: Any, inputs: Inputs, bare: Any) -> Cost:
        batch, held = Batch(**inputs["batch"]), inputs["held"]
        own, places = losses.hidden_states(model, batch, bare=bare)
        tokens, weights, elsewhere = batch.token_ids[places], batch.weights[places], held[places[0]]

        def unlikely(own: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            logprobs = losses.head_logprobs(bare, own)
            return -(weights * logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)).sum()

        def apart_from(own: torch.Tensor, base: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            # The head is the base's own in both: no adapter is on it.
            ours, theirs = losses.head_logprobs(bare, torch.cat([own, base])).split([len(own), len(base)])
            return (weights * losses.divergence(ours, theirs.detach())).sum()

        taught = losses.in_parts(bare, unlikely, own[~elsewhere], tokens[~elsewhere], weights[~elsewhere])
        apart = torch.zeros_like(taught)
        if held.any():
            # After the pass with a gradient, and past a data-parallel wrapper, as for KTO.
            with torch.no_grad(), bare.disable_adapter():
                base, _ = losses.hidden_states(bare, Batch(*(tensor[held] for tensor in batch)))
            apart = losses.in_parts(bare, apart_from, own[elsewhere], base, weights[elsewhere])
        mass = weights.sum()
        return Cost((taught + apart) / mass, {"held": apart.detach() / mass})


class MinorSft(Comparing):
    """Supervised fine-tuning that pulls less at what has left the base already."""

    measures = ("drift",)

    def collate(self, items: Sequence[Item]) -> Inputs:
        return {"batch": collate([item.record for item in items])._asdict(), "base": _base(items)}

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


class Dpo(Comparing):
    """Pairs that share their beginning, whole or step by step; where wanted, with the better side's likelihood."""

    measures = ("accuracy", "margin")
    in_trees = True

    def collate(self, items: Sequence[Item]) -> Inputs:
        pairs: list[Pair] = [item.record for item in items]
        return {
            "batch": branching.lay_out([branching.of_pair(pair) for pair in pairs])._asdict(),
            "weights": torch.tensor([pair.weight for pair in pairs]),
            "base": _base(items),
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
            "base": _base(items),
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
    if any(isinstance(record, Held) for record in records):
        return HoldingSft(config)
    return OBJECTIVES[config.objective](config)


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


def _base(items: Sequence[Item]) -> torch.Tensor:
    return torch.tensor([item.base for item in items])
