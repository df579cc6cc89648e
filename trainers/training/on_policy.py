"""On-policy learning: a model plays while it is trained. What does it needs TRL, which is imported when it begins."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from trainers.config import JobConfig
from trainers.data.examples import Tokenize
from trainers.data.records import Trajectory
from trainers.errors import MissingDependency
from trainers.training.canary import Canary
from trainers.training.groups import Group
from trainers.training.job_data import Progress, Report

TRL = "1.16"
"""The minor version whose experimental parts are used."""

Play = Callable[[int, list[int], Path | None], list[Group]]
"""Plays for a step (counted from 0) these games, by their places, with the adapter in a folder (None: the base)."""


class Learned(NamedTuple):
    """What came of on-policy training: an adapter that is ready to be written, and what it learned from."""

    save_adapter: Callable[[Path], None]
    canary: Canary
    report: Report
    records: list[Trajectory]


def check_trl() -> None:
    """Raises MissingDependency if TRL is not installed, or in another version."""
    try:
        found = version("trl")
    except PackageNotFoundError:
        found = ""
    if not found.startswith(f"{TRL}."):
        here = f"and {found} is here" if found else "which is not installed"
        raise MissingDependency(
            f"the objective grpo needs TRL {TRL}, {here}; pip install 'agentlab[rl]', or set another objective"
        )


def learn(
    folder: Path,
    config: JobConfig,
    base: Path,
    play: Play,
    games: int,
    tokenize: Tokenize,
    *,
    max_tokens: int,
    progress: Progress | None = None,
) -> Learned:
    """Train on what `play` plays of so many `games`, from the last whole checkpoint in `folder` if there is one.

    Raises what `play` does, MissingDependency without TRL, NothingToTrain if no group of episodes ever told anything,
    UnsupportedModel if what plays is not what is trained, OutOfMemory, and what a training job does.
    """
    check_trl()
    from trainers.training import grpo

    return grpo.learn(folder, config, base, play, games, tokenize, max_tokens=max_tokens, progress=progress)
