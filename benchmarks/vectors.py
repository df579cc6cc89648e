"""Vectors to measure with, of length 1: float32, (count, 384)."""

from __future__ import annotations

import numpy as np

DIMENSIONS = 384
SPREAD = 0.6


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """As the texts of a memory are: √count topics of very unequal size, in no order, a cosine of about 0.75 within one.

    Topics and what differs within them have falling variances, an effective number of dimensions of 80 (the square of
    the sum of the variances by the sum of their squares).
    """
    chance = np.random.default_rng(seed)
    scale = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.375
    topics = normal(chance.standard_normal((max(8, int(count**0.5)), DIMENSIONS), np.float32) * scale)
    found = np.empty((count, DIMENSIONS), np.float32)
    for start in range(0, count, 65536):
        part = found[start : start + 65536]
        part[:] = topics[chance.zipf(1.3, len(part)) % len(topics)]
        part += SPREAD * normal(chance.standard_normal(part.shape, np.float32) * scale)
    return normal(found)


def uniform(count: int, seed: int = 0) -> np.ndarray:
    """In every direction alike, so that all are about as far from each other: the worst case of a graph."""
    return normal(np.random.default_rng(seed).standard_normal((count, DIMENSIONS), np.float32))


def normal(vectors: np.ndarray) -> np.ndarray:
    """`vectors`, scaled to length 1 in their place."""
    for start in range(0, len(vectors), 65536):
        part = vectors[start : start + 65536]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors
