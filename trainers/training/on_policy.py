"""On-policy learning: a model plays while it is trained. What does it needs TRL, which is imported when it begins."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainers.config import JobConfig
from trainers.data.examples import Tokenize
from trainers.errors import MissingDependency
from trainers.training.groups import Learned, Play
from trainers.training.job_data import Progress

TRL = "1.16"
"""The minor version whose experimental parts are used."""


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
