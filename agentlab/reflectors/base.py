"""What a reflector is: it reads a finished episode and writes reflections, each with text, advice and its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from memory.records import Advice, Episode, Evidence, Reflection, content_id


@runtime_checkable
class Reflector(Protocol):
    """Reads a trajectory, writes reflections.

    `name` becomes the reflections' `kind`. One that judges by itself rather than by the environment's score says so in
    its reflections (`oracle`; those that ship have an attribute of that name): intrinsic self-correction and correction
    by an oracle are not to be mixed up (Huang et al. 2024).

    A reflector sees the episode only: never text that a recall put into its prompt (`Episode.hints`), or memories would
    breed memories (mem0's audit, see the README's reading list).
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
    oracle: bool = True,
    goal: str | None = None,
    topic: str = "",
) -> Reflection:
    """A reflection on `episode` with its evidence; its id follows from the episode, the kind, goal and topic alone.

    `oracle` says that what it rests on came from the environment and not from a model's judgement. `goal` is what it
    is about, where that is not the episode's own; `topic` the question that it answers, if other games answer it too.
    """
    about = [part for part in (goal, topic or None) if part is not None]
    return Reflection(
        id=content_id("r", episode.id, kind, *about),
        kind=kind,
        env=episode.env,
        task=episode.task_id,
        goal=episode.goal if goal is None else goal,
        text=text,
        topic=topic,
        advice=list(advice),
        evidence=[Evidence(episode=episode.id, steps=sorted(set(steps)))],
        importance=importance,
        tags=[episode.status, f"arm:{episode.arm}", *tags],
        oracle=oracle and episode.is_oracle,
        run=episode.run,
    )
