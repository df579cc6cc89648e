"""Weights of single steps by how far they lead: the process reward of ReST-MCTS* (Zhang et al. 2024).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from memory.records import Episode
from trainers.data.selectors.base import Context, Selected, Selection, Settings, sift
from trainers.errors import CannotSelect


def step_values(reaches: Sequence[bool]) -> list[float]:
    """The value of each step, in [0, 1]: v_k = max(0, v_{k−1} + (1 − v_{k−1})·r_k / (m_k + 1)), v_0 = 0.

    `reaches[k]` says whether success can still be reached after step k (r = +1, else −1); m_k is the number of steps
    that follow. Where every step reaches, values rise evenly to 1.
    """
    values: list[float] = []
    before = 0.0
    for k, good in enumerate(reaches):
        left = len(reaches) - 1 - k
        before = max(0.0, before + (1 - before) * (1 if good else -1) / (left + 1))
        values.append(before)
    return values


class StepValues(Settings):
    """Weigh every step by its value, so that steps towards a dead end teach nothing.

    Which steps still reach success, a search tells (`Context.reaches`); without one, all steps of a won episode do and
    none of another.
    """

    kind: Literal["step_values"] = "step_values"

    def __call__(self, pool: Sequence[Selected], context: Context) -> Selection:
        weighed = [self._weighed(item, context) for item in pool]
        return sift(weighed, context, lambda item: None if any(item.step_weights or ()) else "no step of value")

    def _weighed(self, item: Selected, context: Context) -> Selected:
        values = step_values(_reaches(item.episode, context))
        before = item.step_weights or [1.0] * len(values)
        return item.model_copy(update={"step_weights": [a * b for a, b in zip(before, values, strict=True)]})


def _reaches(episode: Episode, context: Context) -> Sequence[bool]:
    if context.reaches is None:
        return [episode.won] * len(episode.steps)
    reaches = context.reaches(episode)
    if len(reaches) != len(episode.steps):
        raise CannotSelect(
            f"episode {episode.id} has {len(episode.steps)} steps; `Context.reaches` judged {len(reaches)} of them; "
            "let it judge each step"
        )
    return reaches
