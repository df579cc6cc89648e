"""What the steps of an episode are worth, after the rule of ReST-MCTS* (Zhang et al. 2024, §3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from agentlab.search.tree import Tree
from memory.records import Episode


def quality(start: int | None, reached: Sequence[int | None]) -> list[float]:
    """Step values v_k = max(0, v_{k−1} + (1 − v_{k−1})·r_k / (m_k + 1)), from v_0 = 0, each in [0, 1].

    `reached[k]` is m_k, the steps that are left to the nearest success that is known to follow step k (0 at the
    success itself), `start` the same before the first step; None where no success is known to follow. This is the hard
    estimation: r_k = +1 where one is known, else −1. Where none is, m_k is that of the last moment from which one was.
    """
    values: list[float] = []
    value, known = 0.0, start
    for left in reached:
        known = left if left is not None else known
        if known is not None:
            sign = 1 if left is not None else -1
            value = max(0.0, value + (1 - value) * sign / (known + 1))
        values.append(value)
    return values


def step_values(tree: Tree, episode: Episode) -> list[float]:
    """The value of each step of an episode of the tree, by the wins that the tree knows to follow it.

    The more rollouts the tree has from a step (`self_explore` makes them), the surer is that no win follows it.
    """
    start, *after = tree.line(episode)
    return quality(start.to_win, [node.to_win for node in after])
