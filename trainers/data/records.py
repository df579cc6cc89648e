"""What a job is made of: one kind of record for each objective, a record a line of its examples.jsonl.

Supervised fine-tuning takes an `Example` as it is; the other objectives hold examples and say what about them is to be
learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memory.text import loaded
from trainers.config import ObjectiveName
from trainers.data.examples import Example
from trainers.errors import BadExample, NothingToTrain


class Pair(BaseModel):
    """Two sequences, of which the first is to become more likely than the second (DPO, step-level DPO).

    What both begin with goes through the model once. Tokens whose weight is not 0 are compared; `weight` is that of
    the whole pair in the loss.
    """

    model_config = ConfigDict(extra="forbid")

    better: Example
    worse: Example
    weight: float = Field(1.0, gt=0.0)

    @model_validator(mode="after")
    def _two_choices(self) -> Pair:
        if not self.better.spans or not self.worse.spans:
            raise ValueError("both sides of a pair need tokens that were chosen")
        if self.better.token_ids == self.worse.token_ids:
            raise ValueError("both sides of a pair are the same; there is nothing to prefer")
        return self

    def __len__(self) -> int:
        return len(self.better) + len(self.worse) - self.shared

    @property
    def shared(self) -> int:
        """How many tokens both sides begin with."""
        both = zip(self.better.token_ids, self.worse.token_ids, strict=False)
        return sum(1 for _ in takewhile(lambda tokens: tokens[0] == tokens[1], both))

    @property
    def taught(self) -> Example:
        """What is to become more likely: the better side."""
        return self.better

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The half-open ranges that are compared: those of the better side, then those of the worse one."""
        return [*self.better.spans, *self.worse.spans]


class OfExample(BaseModel):
    """Base of the records that hold one example to learn from, with what else their objective needs."""

    model_config = ConfigDict(extra="forbid")

    example: Example

    @property
    def taught(self) -> Example | None:
        """What is to become more likely: the example, unless a kind says otherwise."""
        return self.example

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The half-open ranges of tokens that are chosen in it."""
        return self.example.spans


class Judged(OfExample):
    """One sequence whose chosen tokens are desirable or not (KTO), and its weight in the loss."""

    desirable: bool
    weight: float = Field(1.0, gt=0.0)

    def __len__(self) -> int:
        return len(self.example)

    @property
    def taught(self) -> Example | None:
        """What is to become more likely: a desirable example."""
        return self.example if self.desirable else None


class Choice(BaseModel):
    """What a teacher thinks of the candidates at one place.

    The tokens of every candidate would begin at index `at` of the sequence; `probabilities` add up to 1.
    """

    model_config = ConfigDict(extra="forbid")

    at: int = Field(ge=1)
    candidates: list[list[int]] = Field(min_length=1)
    probabilities: list[float]

    @model_validator(mode="after")
    def _a_distribution(self) -> Choice:
        if not all(self.candidates):
            raise ValueError("every candidate needs a token")
        if len(self.probabilities) != len(self.candidates):
            raise ValueError(f"{len(self.candidates)} candidates and {len(self.probabilities)} probabilities")
        if min(self.probabilities) < 0 or abs(sum(self.probabilities) - 1) > 1e-4:
            raise ValueError("probabilities must not be negative and must add up to 1")
        return self


class Distilled(OfExample):
    """One sequence as a student without memory sees it, and what a teacher with memory thought at its choices.

    The weight of a choice is that of the token at its place in `example`.
    """

    choices: list[Choice] = Field(min_length=1)

    @model_validator(mode="after")
    def _choices_at_actions(self) -> Distilled:
        weights = self.example.weights
        if not all(choice.at < len(weights) for choice in self.choices):
            raise ValueError(f"a choice lies behind the end of the {len(weights)} tokens")
        if not any(weights[choice.at] for choice in self.choices):
            raise ValueError("no choice lies where a token carries loss")
        return self

    def __len__(self) -> int:
        # At most: candidates that begin alike share tokens.
        return len(self.example) + sum(len(ids) - 1 for choice in self.choices for ids in choice.candidates)


class Regularised(OfExample):
    """One sequence to learn, and one from elsewhere on which the policy is to stay what its base is.

    Nothing in `reference` is taught, whatever was played there: the loss there is the KL divergence from the base at
    each place whose token has a weight, and that weight is the place's. Both go through the model together, so that the
    loss of every batch has a part of each.
    """

    reference: Example

    def __len__(self) -> int:
        return len(self.example) + len(self.reference)


class Trajectory(OfExample):
    """One episode that was played while training (GRPO): the weights of `example` are the advantages of its tokens.

    `sources` says of each token where it came from (LTC, Wang et al. 2023): SYSTEM, OWN or OTHERS; only own tokens
    have an advantage. `reward` is that of the whole episode, shaped as was asked for, and `step` the step of the
    optimizer for which it was played, counted from 0.
    """

    sources: list[int]
    reward: float
    step: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_source_a_token(self) -> Trajectory:
        if len(self.sources) != len(self.example):
            raise ValueError(f"{len(self.example)} tokens need as many sources; got {len(self.sources)}")
        if any(weight and source != OWN for weight, source in zip(self.example.weights, self.sources, strict=True)):
            raise ValueError("only what the agent wrote itself has an advantage")
        return self

    def __len__(self) -> int:
        return len(self.example)

    @property
    def taught(self) -> Example | None:
        """What was to become more likely: the tokens whose advantage is positive, if there are any."""
        weights = [max(weight, 0.0) for weight in self.example.weights]
        return self.example.model_copy(update={"weights": weights}) if any(weights) else None

    @property
    def own(self) -> Example:
        """The same with weight 1 on all that the agent wrote itself."""
        return self.example.model_copy(update={"weights": [float(source == OWN) for source in self.sources]})


SYSTEM, OWN, OTHERS = 0, 1, 2
"""Sources of a token: the task and the form of the prompt; the agent; the environment, its tools and other agents."""

Record = Example | Pair | Judged | Distilled | Regularised | Trajectory

RECORDS: dict[ObjectiveName, tuple[type[Record], ...]] = {
    "sft": (Example, Regularised),
    "minor_sft": (Example,),
    "soft_distill": (Distilled,),
    "dpo": (Pair,),
    "step_dpo": (Pair,),
    "kto": (Judged,),
    "grpo": (Trajectory,),
}
"""The kinds that an objective learns from; what it is there for is the first."""


def read(objective: ObjectiveName, line: str) -> Record:
    """The record of an objective in a line of JSON. Raises ValueError, of which pydantic's ValidationError is one."""
    fields = loaded(line)
    if isinstance(fields, dict) and "elsewhere" in fields:
        # Jobs of earlier versions.
        fields["reference"] = fields.pop("elsewhere")
    kinds = RECORDS[objective]
    kind = Regularised if Regularised in kinds and isinstance(fields, dict) and "reference" in fields else kinds[0]
    return kind.model_validate(fields)


def check(objective: ObjectiveName, records: Sequence[Record]) -> None:
    """Refuse what `objective` cannot learn from.

    Raises NothingToTrain if no token carries loss, BadExample if a record is not of the objective's kind.
    """
    useful = [record for record in records if record.spans]
    if not useful:
        raise NothingToTrain(
            f"no token of the {len(records)} examples carries loss; there is nothing to learn; "
            "collect won episodes first"
        )
    kinds = RECORDS[objective]
    for number, record in enumerate(records, 1):
        if not isinstance(record, kinds):
            raise BadExample(
                f"example {number} is of the kind {type(record).__name__}; the objective {objective} learns from "
                f"{' and '.join(kind.__name__ for kind in kinds)}; make such records or choose another objective"
            )
        if objective == "step_dpo" and isinstance(record, Pair) and len(record.spans) != 2:
            raise BadExample(
                f"pair {number} compares more than one step a side; step_dpo compares single ones; "
                "cut it to one step, or choose dpo"
            )
    if objective == "kto":
        if not any(record.taught for record in useful):
            raise NothingToTrain(
                f"none of the {len(useful)} examples is desirable; a model that only unlearns breaks; add successes"
            )
        if len(useful) < 2:
            raise NothingToTrain(
                "kto compares an answer with those to other prompts; one example has no other; add examples"
            )
