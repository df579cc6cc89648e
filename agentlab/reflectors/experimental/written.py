"""Reflections that a model writes; the plain one is a lesson after a failure (Shinn et al. 2023, Reflexion).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from agentlab.engines.model import Model
from agentlab.reflectors.base import Reflector, reflection_of
from agentlab.reflectors.experimental.writing import TEXT_LIMIT, CheckedWriter
from agentlab.reflectors.grounded import GroundedReflector
from memory import prompts
from memory.records import Episode, Reflection

OPENING = "This is what a player did in a text game. Lines behind a bar are what the game said."
LESSON = "In one or two sentences, say what to do differently next time."
GROUNDED = GroundedReflector()


@dataclass(frozen=True)
class Lesson:
    """What a writing reflector came to. `steps` are the indices that show it; None: all that the model was shown."""

    text: str
    steps: Sequence[int] | None = None
    tags: Sequence[str] = ()


class WritingReflector(ABC):
    """Has a model write a lesson. A subclass says how in `lesson`.

    Every prompt quotes the transcript and all texts of models as data, without the memory block that stood in the
    episode's prompt; every answer goes through `writing.usable`.

    `oracle` says whose feedback it is. True: the environment's; the prompt tells the outcome, and only failures are
    reflected on. False: the model's own judgement (intrinsic); neither the outcome nor the score is told or looked
    at, so every finished episode is reflected on, since picking the failures would take the oracle.

    Where the model cannot write or gives nothing usable, `fallback` reflects instead (None: nobody does). What it
    writes bears its own kind and its own `oracle`.
    """

    name: str
    oracle: bool = True

    def __init__(
        self, model: Model | None, *, oracle: bool | None = None, fallback: Reflector | None = GROUNDED
    ) -> None:
        self.writer = CheckedWriter(model)
        self.fallback = fallback
        if oracle is not None:
            self.oracle = oracle

    @abstractmethod
    def lesson(self, episode: Episode) -> Lesson | None:
        """The lesson of `episode`, or None where nothing usable was written."""

    def reflect(self, episode: Episode) -> list[Reflection]:
        if episode.status == "errored" or not episode.steps or (self.oracle and episode.won):
            return []
        lesson = self.lesson(episode)
        if lesson is None:
            return self.fall_back(episode)
        shown = [step.index for step in prompts.reported(episode)]
        return [
            reflection_of(
                episode,
                kind=self.name,
                text=lesson.text,
                steps=shown if lesson.steps is None else lesson.steps,
                tags=[f"by:{self.writer.name}", *lesson.tags],
                oracle=self.oracle,
            )
        ]

    def fall_back(self, episode: Episode) -> list[Reflection]:
        """What is remembered where nothing was written."""
        return self.fallback.reflect(episode) if self.fallback is not None else []

    def ask(
        self,
        episode: Episode,
        question: str,
        *said: tuple[str, str],
        writer: CheckedWriter | None = None,
        limit: int = TEXT_LIMIT,
    ) -> str:
        """A usable answer (or an empty one) to a `prompt`. It may repeat what was said, but not the transcript."""
        prompt = self.prompt(episode, question, *said)
        return (writer or self.writer).write(prompt, limit=limit, unlike=self.prompt(episode, question))

    def prompt(self, episode: Episode, question: str, *said: tuple[str, str]) -> str:
        """The transcript, what was `said` about it so far (who or what, and the words), and the question."""
        quotes = [f"{who}:\n{prompts.quoted(words)}" for who, words in said]
        return "\n".join([OPENING, prompts.report(episode, outcome=self.oracle), *quotes, question]) + "\n"


class WrittenReflector(WritingReflector):
    """Has the model write a lesson after a failure, in one go."""

    name = "written"

    def lesson(self, episode: Episode) -> Lesson | None:
        text = self.ask(episode, LESSON)
        return Lesson(text) if text else None
