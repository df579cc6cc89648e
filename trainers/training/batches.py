"""The order in which a job sees its examples: decided once, from the seed, so that a resumed job sees the same."""

from __future__ import annotations

import random
from collections.abc import Sequence


def plan(count: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices, below `count`, of the examples of every batch of the whole training, in order.

    Within an epoch every example occurs once, in an order of its own. Batches are mixed at random: grouped by length,
    as padding would want them, each would hold a single game, and training would go from one to the other and back.
    """
    rng = random.Random(seed)
    batches: list[list[int]] = []
    for _ in range(epochs):
        order = rng.sample(range(count), count)
        batches += [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches


def shares(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Divide one batch among processes: for each the indices of its examples, in order, perhaps none.

    `lengths` are in tokens. The longest goes first, each to the process with the fewest tokens so far.
    """
    parts: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        least = loads.index(min(loads))
        parts[least].append(index)
        loads[least] += lengths[index]
    return [sorted(part) for part in parts]
