"""Confidence gating by If-or-Else prompts (Li et al. 2024, Confidence Matters): keep if confident, else revise.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from agentlab.reflectors.experimental.written import LESSON, Lesson, WritingReflector
from memory.records import Episode

REVIEW = (
    "Review this lesson. If you are very confident that it is right, answer KEEP and nothing else. Else write a better "
    "one, in one or two sentences."
)
DECIDE = "Two lessons were drawn. Which is right? Answer 1 or 2 and nothing else."


class ConfidenceReflector(WritingReflector):
    """Writes a lesson and reviews it: kept when the model is confident in it, else revised.

    A revision that differs from the lesson is a disagreement, which a third prompt decides; an answer that decides
    nothing keeps the lesson. The tag says what happened: `kept`, `decided:first` or `decided:second`. Intrinsic: the
    model judges itself and learns nothing of the outcome, unless `oracle` is set.
    """

    name = "confidence"
    oracle = False

    def lesson(self, episode: Episode) -> Lesson | None:
        first = self.ask(episode, LESSON)
        if not first:
            return None
        second = self._revision(episode, first)
        if not second or _plain(second) == _plain(first):
            return Lesson(first, tags=["kept"])
        asked = self.prompt(episode, DECIDE, ("Lesson 1", first), ("Lesson 2", second))
        if self.writer.choose(asked, ("1", "2")) == "2":
            return Lesson(second, tags=["decided:second"])
        return Lesson(first, tags=["decided:first"])

    def _revision(self, episode: Episode, first: str) -> str:
        """What the model would rather say; empty where it keeps the lesson."""
        text = self.ask(episode, REVIEW, ("Lesson", first))
        return "" if text.startswith("KEEP") else text


def _plain(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
