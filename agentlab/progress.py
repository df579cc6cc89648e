"""How long work tells how far it is; `agentlab.bars` draws it."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Does nothing; subclasses draw. Stages may nest and may be started again after a resume."""

    def say(self, message: str) -> None:
        """A line for the person: something that was done or noticed."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` units begins."""

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        """`units` more are done; `note` says how it goes."""

    def finish(self, stage: str, note: str = "") -> None:
        """The stage has ended."""

    def close(self) -> None:
        """Nothing more comes, whatever has not ended."""


def counted(progress: Progress, stage: str, few: int) -> Callable[[int, int], None]:
    """Tells of a stage by (done, total), again and again; of up to `few` units nothing is told."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total <= few:
            return
        if not told or done <= told:
            progress.start(stage, total)
            told = 0
        progress.advance(stage, done - told)
        told = done
        if done >= total:
            progress.finish(stage)
            told = 0

    return tell
