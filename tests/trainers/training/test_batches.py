"""The order in which examples are seen."""

from __future__ import annotations

import random

from trainers.training.batches import plan, shares

LENGTHS = [random.Random(3).randint(20, 400) for _ in range(50)]


def test_every_example_occurs_once_in_every_epoch() -> None:
    batches = plan(50, 4, 2, seed=0)
    seen = [index for batch in batches for index in batch]
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert len(batches) == 26


def test_the_order_follows_from_the_seed() -> None:
    assert plan(50, 4, 2, seed=0) == plan(50, 4, 2, seed=0)
    assert plan(50, 4, 2, seed=0) != plan(50, 4, 2, seed=1)


def test_epochs_differ() -> None:
    batches = plan(50, 4, 2, seed=0)
    assert batches[:13] != batches[13:]


def test_examples_that_lie_together_do_not_stay_together() -> None:
    batches = plan(40, 4, 1, seed=0)
    # Ten games of four episodes each, one after the other.
    assert all(len({index // 4 for index in batch}) > 1 for batch in batches)


def test_the_last_batch_holds_what_is_left() -> None:
    assert [len(batch) for batch in plan(10, 4, 1, seed=0)] == [4, 4, 2]


def test_a_batch_is_divided_by_tokens_and_nothing_is_lost() -> None:
    assert shares([10, 60, 30, 40], 2) == [[0, 1], [2, 3]]
    parts = shares(LENGTHS, 3)
    assert sorted(index for part in parts for index in part) == list(range(50))
    loads = [sum(LENGTHS[index] for index in part) for part in parts]
    assert max(loads) - min(loads) <= max(LENGTHS)


def test_one_process_has_it_all_and_a_small_batch_leaves_some_without() -> None:
    assert shares([5, 9, 7], 1) == [[0, 1, 2]]
    assert shares([5], 3) == [[0], [], []]
