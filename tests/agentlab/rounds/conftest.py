"""What the tests of a round's nodes share: a lab without weights, in which adapters are names that play differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentlab.engines.base import Adapter
from agentlab.engines.scripted import ScriptedEngine
from agentlab.lab import Lab
from agentlab.progress import Progress
from agentlab.rounds import RoundConfig, RoundReport
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry

ENV = "toy/doors?colours=2,rooms=1,step_limit=4"
OTHER = "toy/doors?colours=3,rooms=1,step_limit=4"


def reads_notes(transcript: str, command: str) -> float:
    """Wins the toy game: read the note, open the door that it names, take the coin."""
    last = transcript.rstrip(">").rstrip().splitlines()[-1]
    if command.startswith("open "):
        return 0.0 if f"the {command.removeprefix('open ')} is safe" in last else -9.0
    return {"take coin": 0.0, "read note": -1.0}.get(command, -5.0)


@pytest.fixture
def skilled(open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lab]:
    """Opens a lab whose base, and adapter-bad, only look around, while adapter-good wins every game."""
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")

    def opened(name: str = "lab", progress: Progress | None = None) -> Lab:
        engine = ScriptedEngine({"look": 0.0}, preferences_by_adapter={"adapter-good": reads_notes})
        lab = open_lab(name, engine=engine, progress=progress)
        for id in ("adapter-good", "adapter-bad"):
            record = AdapterRecord(id=id, base="b", fingerprint="f", path=f"adapters/{id}")
            lab.adapters.records.put(record)
        return lab

    return opened


@pytest.fixture
def report() -> Callable[..., RoundReport]:
    """Makes the report of a round that has trained an adapter."""

    def made(adapter: str = "adapter-good", **settings: object) -> RoundReport:
        config = RoundConfig.model_validate({"envs": [ENV, OTHER], "seeds": 5, "gate_seeds": 25, **settings})
        return RoundReport(id="round-1", number=1, config=config, phase="gate", adapter=adapter)

    return made


@pytest.fixture
def timeless() -> Callable[[RoundReport], dict[str, Any]]:
    """All that the report of a round with a training says, but what a clock does."""

    def said(report: RoundReport) -> dict[str, Any]:
        found = report.model_dump(mode="json", exclude={"started_at", "ended_at"})
        for clock in ("seconds", "tokens_per_second"):
            del found["training"][clock]
        return found

    return said


class Spelling(ScriptedEngine):
    """A scripted engine to which every letter is a token, and under which every token has the same probability."""

    context = 2048

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def command_tokens(self, command: str) -> list[int]:
        return self.tokenize(command)

    def logprob(
        self, token_ids: Sequence[int], spans: Sequence[tuple[int, int]], adapter: Adapter | None = None
    ) -> float:
        """Half a nat a token; an adapter halves that."""
        return -(0.25 if adapter else 0.5) * sum(end - start for start, end in spans)


@pytest.fixture
def spelling(open_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lab]:
    """Opens a lab whose engine cuts text into letters and plays by the notes, or by another script."""
    monkeypatch.setattr(AdapterRegistry, "folder_of", lambda self, adapter, base=None: Path())
    monkeypatch.setattr(Lab, "fingerprint", "f")

    def opened(name: str = "lab", script: object = reads_notes, progress: Progress | None = None) -> Lab:
        return open_lab(name, engine=Spelling(script), progress=progress)  # type: ignore[arg-type]

    return opened


class Breaks(Progress):
    """Presses Ctrl-C once, after so many units of a stage."""

    def __init__(self, stage: str, after: int) -> None:
        self.stage, self.left = stage, after

    def advance(self, stage: str, units: int = 1, note: str = "") -> None:
        if stage.startswith(self.stage):
            self.left -= units
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.fixture
def breaks() -> type[Breaks]:
    return Breaks
