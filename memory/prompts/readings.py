"""What was read in an episode: answers that told what no look shows again, such as a recipe or a map.

A long episode loses its oldest turns where a context is full. What was read in them stays, as one line behind the head.
It is told from the rest by the facts of a step alone, as the grounded reflector tells them: where one is, what lies
there and what one has is seen again at any time, so an answer of which these say nothing was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from memory.prompts.rendering import head_line
from memory.records import Step
from memory.text import words

LEAST = 5
"""Words that an answer must tell beyond what is seen and done. (`You see nothing special about it` tells four.)"""

LONGEST = 1000
"""Characters of what stays, at most; of what was read later first."""


class Reading(NamedTuple):
    """What was done, and what was read then; nothing was done before what is told at the beginning."""

    action: str
    text: str


def reading(action: str, text: str, *seen: str) -> Reading | None:
    """The answer to an action, if it tells what `seen` (the situations before and after it, say) does not."""
    new = words(text) - words(action) - words(" ".join(seen))
    return Reading(action, text) if len(new) >= LEAST else None


def read_at_start(goal: str, observation: str, state: str) -> Reading | None:
    """What is told at the beginning of an episode and is neither its task nor what is seen there."""
    return reading("", observation, goal, state)


def read_by(step: Step) -> Reading | None:
    """What a step brought to light; an action that was none did nothing of that."""
    return None if step.invalid else reading(step.action, step.result, step.state, step.next_state)


def readings(goal: str, steps: Sequence[Step]) -> list[Reading | None]:
    """For the observation of each step, what was read in it."""
    if not steps:
        return []
    return [read_at_start(goal, steps[0].observation, steps[0].state), *map(read_by, steps[:-1])]


def pinned(found: Sequence[Reading | None]) -> str:
    """What was read in turns that are left out, as the line that stays behind the head; empty if nothing was.

    What was read again by the same action, or says the same, stays once.
    """
    kept: list[Reading] = []
    left = LONGEST
    for one in reversed(found):
        if one is None or not left or any(one.action == other.action or one.text == other.text for other in kept):
            continue
        text = one.text if len(one.text) <= left else f"{one.text[:left]}…"
        kept.append(one._replace(text=text))
        left = max(left - len(text), 0)
    return head_line("Read before: ", [f"{one.action}: {one.text}".removeprefix(": ") for one in reversed(kept)])
