"""Self-Contrast (Zhang et al. 2024): several perspectives, their differences, a checklist, and then the reflection.

A model that is asked to find its own mistake is overconfident or wavers; asked where its own solutions disagree, it
finds what is doubtful.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentlab.engines.model import Model
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.experimental.writing import unnumbered
from agentlab.reflectors.experimental.written import GROUNDED, LESSON, Lesson, WritingReflector
from agentlab.text import words
from memory.records import Episode

PERSPECTIVES = (
    "what was seen and read before acting",
    "the order in which things were done",
    "the alternatives that were never tried",
)
NAME_PERSPECTIVES = "Name {count} different perspectives from which this can be looked at, one a line."
SOLVE = "Look at it from this perspective: {perspective}. Say in one or two sentences how the task is to be solved."
COMPARE = "Say in one to three sentences where these solutions differ, and where one of them must be wrong."
CHECK = "From these differences, write a short checklist for the next attempt."
SAME = 0.8  # two solutions that share this part of their words say the same


class ContrastReflector(WritingReflector):
    """Contrasts the model's own solutions. Intrinsic: it learns nothing of the outcome, unless `oracle` is set.

    The model names the perspectives (`PERSPECTIVES` serve where it cannot) and solves the task from each. Solutions
    that say the same as an earlier one are dropped. What is left is compared in one prompt; the differences become a
    checklist, and the checklist the lesson. A single solution left needs no contrast: all agree, and it is the lesson.
    """

    name = "contrast"
    oracle = False

    def __init__(
        self,
        model: Model | None,
        *,
        perspectives: int = 3,
        oracle: bool | None = None,
        fallback: Reflector | None = GROUNDED,
    ) -> None:
        super().__init__(model, oracle=oracle, fallback=fallback)
        self.perspectives = perspectives

    def lesson(self, episode: Episode) -> Lesson | None:
        views = self._views(episode)
        solutions = distinct(filter(None, (self.ask(episode, SOLVE.format(perspective=view)) for view in views)))
        tags = [f"solutions:{len(solutions)}"]
        if len(solutions) < 2:
            return Lesson(solutions[0], tags=tags) if solutions else None
        said = [(f"Solution {number}", solution) for number, solution in enumerate(solutions, 1)]
        differences = self.ask(episode, COMPARE, *said)
        if not differences:
            return None
        checklist = self.ask(episode, CHECK, ("Differences", differences))
        if not checklist:
            return None
        text = self.ask(episode, LESSON, ("Checklist", checklist))
        return Lesson(text or checklist, tags=tags)

    def _views(self, episode: Episode) -> Sequence[str]:
        asked = self.prompt(episode, NAME_PERSPECTIVES.format(count=self.perspectives))
        named = [unnumbered(line).rstrip(".") for line in self.writer.lines(asked, most=self.perspectives)]
        return named if len(named) > 1 else PERSPECTIVES[: self.perspectives]


def distinct(texts: Iterable[str], same: float = SAME) -> list[str]:
    """The texts that share less than `same` of their content words (Jaccard) with every text kept before."""
    kept: list[str] = []
    for text in texts:
        if all(_overlap(words(text), words(other)) < same for other in kept):
            kept.append(text)
    return kept


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
