"""What each objective learns from is checked before a job is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from trainers.config import ObjectiveName
from trainers.data.examples import Example
from trainers.data.records import Choice, Distilled, Judged, Pair, Record, check
from trainers.errors import BadExample, NothingToTrain, TrainersError


def example(*chosen: int, ids: Sequence[int] = (1, 2, 3, 4, 5)) -> Example:
    """A sequence in which the tokens at these places were chosen."""
    weights = [float(at in chosen) for at in range(len(ids))]
    return Example(token_ids=list(ids), weights=weights, episode="e", task="t")


BETTER, WORSE = example(3, 4), example(3, ids=(1, 2, 3, 9))
CHOICE = Choice(at=2, candidates=[[3], [7, 8, 9]], probabilities=[0.25, 0.75])


def test_a_pair_runs_its_common_beginning_once_and_teaches_its_better_side() -> None:
    pair = Pair(better=BETTER, worse=WORSE)
    assert (pair.shared, len(pair)) == (3, 5 + 4 - 3)
    assert pair.taught == BETTER
    assert pair.spans == [(3, 5), (3, 4)]


def test_only_a_desirable_example_is_to_become_more_likely() -> None:
    good, bad = Judged(example=BETTER, desirable=True), Judged(example=WORSE, desirable=False)
    assert (good.taught, bad.taught) == (BETTER, None)
    assert (len(bad), bad.spans) == (4, [(3, 4)])


def test_a_distilled_sequence_counts_its_candidates() -> None:
    record = Distilled(example=example(2, 3), choices=[CHOICE])
    assert (len(record), record.taught, record.spans) == (5 + 0 + 2, example(2, 3), [(2, 4)])


BROKEN: dict[str, Callable[[], Any]] = {
    "tokens that were chosen": lambda: Pair(better=example(), worse=WORSE),
    "nothing to prefer": lambda: Pair(better=BETTER, worse=BETTER),
    "greater than 0": lambda: Pair(better=BETTER, worse=WORSE, weight=0),
    "needs a token": lambda: Choice(at=2, candidates=[[1], []], probabilities=[0.5, 0.5]),
    "2 candidates and 1": lambda: Choice(at=2, candidates=[[1], [2]], probabilities=[1.0]),
    "add up to 1": lambda: Choice(at=2, candidates=[[1], [2]], probabilities=[0.5, 0.6]),
    "not be negative": lambda: Choice(at=2, candidates=[[1], [2]], probabilities=[1.5, -0.5]),
    "behind the end": lambda: Distilled(example=example(2), choices=[CHOICE.model_copy(update={"at": 5})]),
    "where a token carries loss": lambda: Distilled(example=example(3), choices=[CHOICE]),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_record_that_says_nothing_or_nonsense_is_refused(reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BROKEN[reason]()


PAIR = Pair(better=BETTER, worse=WORSE)
LIKED = Judged(example=BETTER, desirable=True)


@pytest.mark.parametrize(
    ("objective", "records"),
    [
        ("sft", [BETTER]),
        ("minor_sft", [BETTER]),
        ("soft_distill", [Distilled(example=example(2), choices=[CHOICE])]),
        ("dpo", [PAIR, Pair(better=example(1, 3), worse=WORSE)]),
        ("step_dpo", [PAIR]),
        ("kto", [LIKED, Judged(example=WORSE, desirable=False)]),
    ],
)
def test_the_records_of_an_objective_pass(objective: ObjectiveName, records: list[Record]) -> None:
    check(objective, records)


@pytest.mark.parametrize(
    ("objective", "records", "error", "reason"),
    [
        ("dpo", [PAIR, BETTER], BadExample, "example 2 is of the kind Example; .* dpo learns from Pair"),
        ("sft", [PAIR], BadExample, "choose another objective"),
        ("step_dpo", [Pair(better=example(1, 3), worse=WORSE)], BadExample, "more than one step a side"),
        ("kto", [LIKED.model_copy(update={"desirable": False})] * 2, NothingToTrain, "none .* is desirable"),
        ("kto", [LIKED, LIKED.model_copy(update={"example": example()})], NothingToTrain, "has no other"),
        ("minor_sft", [example()], NothingToTrain, "carries loss"),
        ("sft", [], NothingToTrain, "carries loss"),
    ],
)
def test_records_that_an_objective_cannot_learn_from_are_told_in_one_line(
    objective: ObjectiveName, records: list[Record], error: type[TrainersError], reason: str
) -> None:
    with pytest.raises(error, match=reason) as raised:
        check(objective, records)
    assert "\n" not in str(raised.value)
