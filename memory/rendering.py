"""The one place where an episode becomes text for a model. Acting and training both use it.

The transcript is append-only, so that a key/value cache lives as long as the episode:

    Task: {goal}
    [Hints:
    {hints}
    ]
    {observation}
    > {action}
    {observation}
    >

It is made of segments, each tokenised by itself; therefore the tokens of a prefix never depend on what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memory.records import Episode


class Segment(NamedTuple):
    """A piece of the transcript; `chosen` marks what the agent chose (an action and its line end)."""

    text: str
    chosen: bool


def head(goal: str, hints: str = "") -> str:
    """The part that never leaves the context window: the task and the memory block."""
    block = f"Hints:\n{hints.strip()}\n\n" if hints.strip() else ""
    return f"Task: {goal.strip()}\n{block}"


def turn(observation: str) -> str:
    """An observation, and the mark after which an action is expected."""
    return f"{observation.strip()}\n>"


def action(command: str) -> str:
    """An action as the model sees and chooses it. Its line end is a token of its own."""
    return f" {command.strip()}"


LINE_END = "\n"


def segments(episode: Episode, *, with_hints: bool = True) -> Iterator[Segment]:
    """The transcript of `episode`, with or without the memory block that stood in its prompt."""
    yield Segment(head(episode.goal, episode.hints if with_hints else ""), False)
    for step in episode.steps:
        yield Segment(turn(step.observation), False)
        yield Segment(action(step.action), True)
        yield Segment(LINE_END, True)
