"""The order in which a job sees its examples: decided once, from the seed, so that a resumed job sees the same."""

from __future__ import annotations

import random
from collections.abc import Sequence


def plan(lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of the examples of every batch of the whole training, in order.

    `lengths` are in tokens. Within an epoch every example occurs once. Examples of about the same length share a
    batch, since padding costs as much as text; a tenth of noise on the lengths keeps batches from being the same in
    every epoch, and their order is random, so that training does not go from short games to long ones.
    """
    rng = random.Random(seed)
    batches: list[list[int]] = []
    for _ in range(epochs):
        noisy = [(length * rng.uniform(0.9, 1.1), index) for index, length in enumerate(lengths)]
        order = [index for _, index in sorted(noisy)]
        epoch = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        rng.shuffle(epoch)
        batches += epoch
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
