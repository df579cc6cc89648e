"""How long work tells how far it is; `agentlab.bars` draws it."""

from __future__ import annotations


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
