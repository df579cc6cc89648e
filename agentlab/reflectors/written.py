"""The written reflector: the model writes the lesson (Shinn et al. 2023, Reflexion), validated and never trusted."""

from __future__ import annotations

import re

from agentlab.engines.base import Engine
from agentlab.reflectors.base import reflection_of
from memory.records import Episode, Reflection

PROMPT = """You played a text game and did not succeed.
Task: {goal}
What you did:
{log}
Result: {outcome}, score {score:.2f}.
In one or two sentences, say what to do differently next time.
"""
STEP_LIMIT = 15  # the last steps matter most
TEXT_LIMIT = 400  # characters of a written reflection


class WrittenReflector:
    """Has the engine write a lesson after a failure.

    The prompt quotes actions and observations as data, without the memory block that stood in the episode's prompt.
    Answers that are empty or merely repeat the prompt are dropped.
    """

    name = "written"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def reflect(self, episode: Episode) -> list[Reflection]:
        if episode.won or episode.status == "errored" or not episode.steps or not self.engine.can_write:
            return []
        steps = episode.steps[-STEP_LIMIT:]
        log = "\n".join(f"> {step.action}\n{step.result.strip()[:200]}" for step in steps)
        prompt = PROMPT.format(goal=episode.goal, log=log, outcome=episode.status, score=episode.score)
        text = clean(self.engine.generate(prompt, max_tokens=80))
        if not text or text.lower() in prompt.lower():
            return []
        return [
            reflection_of(
                episode,
                kind=self.name,
                text=text,
                steps=[step.index for step in steps],
                importance=0.5,
                tags=[f"by:{self.engine.name}"],
            )
        ]


def clean(text: str) -> str:
    """One paragraph of printable text, cut at a sentence's end, within the limit; chat markers are removed."""
    text = re.sub(r"<\|[^|>]*\|>", " ", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    text = re.sub(r"\s+", " ", text).strip().strip('"').strip()
    if len(text) <= TEXT_LIMIT:
        return text
    end = text.rfind(". ", 0, TEXT_LIMIT)
    return text[: end + 1] if end > 0 else text[:TEXT_LIMIT].rsplit(" ", 1)[0]
