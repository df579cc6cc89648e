"""What on-policy training learned from, a line a step, kept beside its checkpoints until it is done."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainers.data.records import Trajectory

NAME = "played.jsonl"


class PlayedLog:
    """The trajectories of each step (counted from 0) in a folder, for the process that trains.

    A kill can tear the last line, and training then goes on from an earlier step: what its checkpoint does not know is
    taken away, and played or read again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def begin(self, steps: int) -> None:
        """Keep the first `steps` steps, from which training goes on."""
        lines = [line for step, line in self._lines() if step < steps]
        beside = self.path.with_name(f"{NAME}.partial")
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(beside, self.path)

    def add(self, step: int, trajectories: list[Trajectory], tokens: int) -> None:
        """Add a step, and how many tokens went through the model for it."""
        records = [one.model_dump(mode="json") for one in trajectories]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "tokens": tokens, "records": records}) + "\n")

    def trajectories(self) -> list[Trajectory]:
        """All that is known, in order."""
        found = (json.loads(line)["records"] for _, line in self._lines())
        return [Trajectory.model_validate(record) for records in found for record in records]

    def tokens(self) -> list[int]:
        """The tokens of each step."""
        return [int(json.loads(line)["tokens"]) for _, line in self._lines()]

    def _lines(self) -> list[tuple[int, str]]:
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append((int(json.loads(line)["step"]), line))
            except (ValueError, LookupError, TypeError):
                continue
        return found
