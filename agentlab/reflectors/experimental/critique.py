"""Critique: a critic apart from the actor judges the steps, and the actor draws the lesson (Xi et al. 2024).

Experimental: no table shows yet that it helps.
"""

from __future__ import annotations

import re

from agentlab.engines.model import Model
from agentlab.reflectors.base import Reflector
from agentlab.reflectors.experimental.writing import TEXT_LIMIT, CheckedWriter, usable
from agentlab.reflectors.experimental.written import GROUNDED, LESSON, Lesson, WritingReflector
from memory import prompts
from memory.records import Episode, Step

FIND = "You are a critic. Name at most {most} steps that were mistakes, one a line, as in: step 3: the reason."
_STEP = re.compile(r"\W*(?:step\s*)?\[?(\d+)\]?\W+(.+)", re.IGNORECASE)


class CritiqueReflector(WritingReflector):
    """A critic names the steps that were mistakes; the actor, shown what it said, writes the lesson.

    `critic` is the second model; without one the actor's own plays both parts, in prompts apart. Remarks on steps
    that were not played are dropped. Where the actor writes nothing usable, the critic's remarks are the lesson. The
    evidence is the steps it names. Feedback is the critic's judgement, not an oracle's, unless `oracle` is set.
    """

    name = "critique"
    oracle = False

    def __init__(
        self,
        model: Model | None,
        critic: Model | None = None,
        *,
        remarks: int = 3,
        oracle: bool | None = None,
        fallback: Reflector | None = GROUNDED,
    ) -> None:
        super().__init__(model, oracle=oracle, fallback=fallback)
        self.critic = CheckedWriter(critic or model)
        self.remarks = remarks

    def lesson(self, episode: Episode) -> Lesson | None:
        remarks = self.criticise(episode)
        if not remarks:
            return None
        critique = "\n".join(f"Step {step.index}, '{step.action}': {reason}" for step, reason in remarks)
        text = self.ask(episode, LESSON, ("A critic says", critique))
        return Lesson(
            text or usable(critique, limit=TEXT_LIMIT),
            steps=[step.index for step, _ in remarks],
            tags=[f"critic:{self.critic.name}"],
        )

    def criticise(self, episode: Episode) -> list[tuple[Step, str]]:
        """The steps that the critic takes for mistakes, in its order, each with its reason."""
        shown = {step.index: step for step in prompts.reported(episode)}
        remarks: dict[int, tuple[Step, str]] = {}
        asked = self.prompt(episode, FIND.format(most=self.remarks))
        for line in self.critic.lines(asked, most=self.remarks):
            found = _STEP.match(line)
            if found and int(found[1]) in shown and any(map(str.isalpha, found[2])):
                remarks.setdefault(int(found[1]), (shown[int(found[1])], found[2].strip()))
        return list(remarks.values())
