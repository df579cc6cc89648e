"""What is stored of an episode by whoever keeps it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentlab.agent.result import DatabaseSink, EpisodeResult
from memory import Database, HashingEmbedder, ReflectionMemory, clock
from memory.records import Episode, Recall, Reflection, now

AHEAD = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="microseconds")


def result(began: str, **came: list[Reflection] | list[Recall]) -> EpisodeResult:
    episode = Episode(
        id="e", run="r", env="toy/doors", split="train", seed=0, arm="m", engine="model", status="won", started_at=began
    )
    return EpisodeResult(episode, **came)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["it began", "it learned", "it recalled"])
def test_what_a_worker_with_a_clock_ahead_played_lies_before_what_begins_afterwards(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_told", clock._told)  # as it was, afterwards
    learned = Reflection(id="rf", kind="note", env="", task="", text="Read.", created_at=AHEAD)
    recalled = Recall(episode="e", reflection="rf", rank=0, query="", score=1.0, at=AHEAD)
    played = {
        "it began": result(AHEAD),
        "it learned": result(now(), reflections=[learned]),
        "it recalled": result(now(), recalls=[recalled]),
    }[what]
    with Database(tmp_path / "lab.db") as database:
        memory = ReflectionMemory(database, HashingEmbedder(), tmp_path / "memory.faiss")
        DatabaseSink(database, memory).put(played)
        assert now() > AHEAD
