"""The eight kinds of self-reflection of Renze & Guven 2024 (Self-Reflection in LLM Agents), with redaction.

Their reflecting agent is told the right answer, so a reflection can simply hand it on. To see what reflecting itself
is worth, a redaction pass takes the answer out of all kinds but the last.

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from agentlab.engines.model import Model
from agentlab.reflectors.base import Reflector, reflection_of
from agentlab.reflectors.experimental.writing import TEXT_LIMIT, usable
from agentlab.reflectors.experimental.written import GROUNDED, Lesson, WritingReflector
from memory.records import Episode, Reflection

Kind = Literal[
    "retry", "keywords", "advice", "explanation", "instructions", "solution", "composite", "unredacted"
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
QUESTIONS = {
    "keywords": "List the key words of what went wrong and of what matters here, separated by commas.",
    "advice": "Give general advice, in one to three sentences, for doing better at such a task.",
    "explanation": "Explain in one or two sentences why this attempt failed.",
    "instructions": "Write a short numbered list of instructions for the next attempt.",
    "solution": "Write, step by step, how the task is solved.",
}
REDACTED = "[redacted]"
PART_LIMIT = 200  # characters of each part of a reflection that has all of them

_ARTICLES = r"(?:(?:a|an|the|some|this|that|your)\s+)?"
_ENDINGS = r"(?:e|s|es|d|ed|n|en|ing)?"
_PASTS = {"take": "took", "go": "went", "get": "got", "eat": "ate", "give": "gave", "find": "found", "throw": "threw"}


def gained(episode: Episode) -> list[str]:
    """The part of the answer that the environment's score gives away: the actions that raised it."""
    return [step.action for step in episode.steps if step.reward > 0]


class RenzeReflector(WritingReflector):
    """Writes one of the eight kinds after a failure; `kind` is its name.

    `retry` writes nothing: that arm knows only that it failed. `composite` has all five written kinds, `unredacted`
    the same without the redaction. `answers` gives the commands (or other texts) that the feedback knows to be right;
    they are told to the writer. By default those are what raised the score in this episode; pass the winning commands
    where they are known. The feedback is an oracle's.

    A redacted kind without usable text keeps the grounded text, redacted too and without its advice on actions.
    """

    oracle = True

    def __init__(
        self,
        model: Model | None,
        kind: Kind,
        *,
        answers: Callable[[Episode], Sequence[str]] = gained,
        fallback: Reflector | None = GROUNDED,
    ) -> None:
        super().__init__(model, fallback=fallback)
        self.name = self.kind = kind
        self.answers = answers

    @property
    def redacts(self) -> bool:
        """Whether the answer is taken out."""
        return self.kind != "unredacted"

    def reflect(self, episode: Episode) -> list[Reflection]:
        return [] if self.kind == "retry" else super().reflect(episode)

    def lesson(self, episode: Episode) -> Lesson | None:
        if self.kind in QUESTIONS:
            text = self._part(episode, self.kind, TEXT_LIMIT)
        else:
            parts = {name: self._part(episode, name, PART_LIMIT) for name in QUESTIONS}
            text = " ".join(f"{name.capitalize()}: {part}" for name, part in parts.items() if part)
        return Lesson(text, tags=["redacted"] if REDACTED in text else []) if text else None

    def _part(self, episode: Episode, name: str, limit: int) -> str:
        answers = self.answers(episode)
        known = [("Known to be right", "\n".join(dict.fromkeys(answers)))] if answers else []
        written = self.ask(episode, QUESTIONS[name], *known, limit=limit)
        return self._redacted(written, answers)

    def _redacted(self, text: str, answers: Sequence[str]) -> str:
        if not self.redacts:
            return text
        text = redact(text, answers)
        return text if usable(text.replace(REDACTED, " ")) else ""

    def fall_back(self, episode: Episode) -> list[Reflection]:
        if not self.redacts:
            return super().fall_back(episode)
        answers = self.answers(episode)
        return [
            reflection_of(
                episode,
                kind=self.name,
                text=redact(found.text, answers),
                steps=found.evidence[0].steps,
                tags=[f"by:{found.kind}"],
            )
            for found in super().fall_back(episode)
        ]


def redact(text: str, answers: Sequence[str]) -> str:
    """`text` with `[redacted]` for every answer in it, whatever its case, its articles and the form of its verb."""
    for answer in sorted({" ".join(answer.split()) for answer in answers} - {""}, key=lambda answer: -len(answer)):
        text = re.sub(_pattern(answer), REDACTED, text, flags=re.IGNORECASE)
    return text


def _pattern(answer: str) -> str:
    verb, *rest = answer.split()
    stem = verb[:-1] if verb.endswith("e") and len(verb) > 2 else verb
    forms = [rf"{re.escape(stem)}{re.escape(stem[-1])}?{_ENDINGS}", *filter(None, [_PASTS.get(verb.lower())])]
    gap = rf"\s+{_ARTICLES}"
    return rf"(?<!\w)(?:{'|'.join(forms)}){''.join(gap + re.escape(word) for word in rest)}(?!\w)"
