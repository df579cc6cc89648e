"""What the tests of consolidation share: a job at a fixed moment, and episodes made of walks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory import Database, Episode, ReflectionMemory, Step
from memory.consolidation.job import ConsolidationConfig, Job, Writer

NOW = "2030-06-30T00:00:00.000000+00:00"


@pytest.fixture
def memory(open_memory: Callable[..., ReflectionMemory]) -> ReflectionMemory:
    return open_memory(clock=lambda: NOW)


@pytest.fixture
def job(memory: ReflectionMemory) -> Callable[..., Job]:
    """A job on the memory as it is now, its index up to date."""

    def made(writer: Writer | None = None, **settings: Any) -> Job:
        found = Job(memory, ConsolidationConfig(**settings), writer)
        found.memory.follow()
        return found

    return made


@pytest.fixture
def live(database: Database, memory: ReflectionMemory, reflection: Any) -> Callable[..., Episode]:
    """Plays a walk through states (`S A B`, each step called after where it leads) and reflects on it."""

    def lived(id: str, walk: str = "S A", status: str = "won", actions: str = "", **values: Any) -> Episode:
        states = walk.split()
        named = actions.split(",") if actions else [f"go {state}" for state in states[1:]]
        steps = [
            Step(
                index=index, observation=f"In {state}.", state=state, admissible=[], action=action, result="",
                next_state=following, reward=float(status == "won" and index == len(states) - 2),
            )
            for index, (state, following, action) in enumerate(zip(states, states[1:], named, strict=False))
        ]  # fmt: skip
        score = 1.0 if status == "won" else 0.0
        seed = values.pop("seed", 3)
        values = {"goal": "Reach the end.", "run": "run-1", "env": "twx/coin", "split": "train", **values}
        episode = Episode(id=id, seed=seed, status=status, score=score, steps=steps, **values)  # type: ignore[arg-type]
        database.episodes.put(episode)
        memory.remember(
            [
                reflection(
                    f"r-{id}", f"Account of {id}.", env=episode.env, task=episode.task_id, run=episode.run,
                    evidence=[{"episode": id, "steps": [0]}], created_at=NOW, updated_at=NOW, goal=episode.goal,
                )
            ]
        )  # fmt: skip
        return episode

    return lived
