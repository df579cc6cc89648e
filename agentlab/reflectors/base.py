"""What a reflector is: it reads a finished episode and writes reflections, each with both faces and its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from memory.records import Advice, Episode, Evidence, Reflection, content_id


@runtime_checkable
class Reflector(Protocol):
    """Reads a trajectory, writes reflections.

    `name` becomes the reflections' `kind`. A reflector sees the episode only: never text that a recall put into its
    prompt (`Episode.hints`), or memories would breed memories (mem0's audit, see the README's reading list).
    """

    name: str

    def reflect(self, episode: Episode) -> list[Reflection]:
        """The reflections that this episode is worth; an empty list is a good answer."""
        ...


def reflection_of(
    episode: Episode,
    *,
    kind: str,
    text: str,
    steps: Sequence[int],
    advice: Sequence[Advice] = (),
    importance: float = 0.5,
    tags: Sequence[str] = (),
) -> Reflection:
    """A reflection on `episode` with its evidence; its id follows from the episode and the kind alone."""
    return Reflection(
        id=content_id("r", episode.id, kind),
        kind=kind,
        env=episode.env,
        task=episode.task_id,
        goal=episode.goal,
        text=text,
        advice=list(advice),
        evidence=[Evidence(episode=episode.id, steps=sorted(set(steps)))],
        importance=importance,
        tags=[episode.status, f"arm:{episode.arm}", *tags],
        oracle=episode.is_oracle,
        run=episode.run,
    )
