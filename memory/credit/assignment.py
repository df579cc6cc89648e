"""Which of the chosen items an episode is not served, so that what they do can be told from chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

_UNIT = 1 / (1 << 53)


class Assignment(NamedTuple):
    """What was decided about one item for one episode.

    `propensity` is the probability with which it was served: 1 where no lot was drawn, so that the episode says
    nothing about the item.
    """

    reflection: str
    held_out: bool
    propensity: float


def all_served(ids: Sequence[str]) -> list[Assignment]:
    """All served, without a lot: what becomes of the episode says nothing about them."""
    return [Assignment(id, False, 1.0) for id in ids]


def uniforms(*parts: object) -> tuple[float, float]:
    """Two random numbers in (0, 1) that depend on nothing but `parts`, so that a resumed episode draws the same."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
    one, two = (int.from_bytes(half, "big") >> 11 for half in (digest[:8], digest[8:]))
    return (one + 0.5) * _UNIT, (two + 0.5) * _UNIT


def uniforms_of(names: Sequence[Sequence[object]], *common: object) -> np.ndarray:
    """`uniforms(*common, *name)` for each of these names, (names, 2), for less than half of the time."""
    import numpy as np

    begun = hashlib.blake2b("\x1f".join(map(str, common)).encode(), digest_size=16)
    digests = []
    for name in names:
        one = begun.copy()
        one.update("\x1f".join(("", *map(str, name))).encode())
        digests.append(one.digest())
    return ((np.frombuffer(b"".join(digests), ">u8") >> 11) + 0.5).reshape(-1, 2) * _UNIT


def assign(
    episode: str, ids: Sequence[str], uplifts: Sequence[float], hold_out: float, max_cost: float
) -> list[Assignment]:
    """Decide for each of `ids`, whose expected uplifts are given, whether `episode` is served it.

    Holding out an item of uplift u > 0 is expected to cost u episodes. Where holding out each with probability
    `hold_out` would be expected to cost this episode more than `max_cost`, a first lot keeps the useful ones out of
    the experiment, so often that the expectation is `max_cost`. Those that stay in are held out with the same
    probability as ever: the odds within the experiment never depend on what has been seen.

    The draw does not depend on the channel (text, exemplar, advice): an item is served or held out as a whole.
    """
    expected = hold_out * sum(max(0.0, uplift) for uplift in uplifts)
    admitted = min(1.0, max(0.0, max_cost) / expected) if expected > 0 else 1.0
    draws = []
    for id, uplift in zip(ids, uplifts, strict=True):
        first, second = uniforms("withhold", episode, id)
        if uplift > 0 and first >= admitted:
            draws.append(Assignment(id, False, 1.0))
        else:
            draws.append(Assignment(id, second < hold_out, 1 - hold_out))
    return draws
