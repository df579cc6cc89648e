"""The boundary of an episode: whatever fails behind it ends that episode, of a known kind, and the run goes on.

An environment, an engine, an actor and a reflector are others' programs, which may raise anything. What they raise
becomes one of `FAILURES` here. What concerns the whole run passes: a task that does not exist, something that is not
installed, a lab's own refusals, a stop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from agentlab.errors import ActorFailed, AgentLabError, EngineFailed, ReflectorFailed, ReplayMismatch, RunFailed
from environments.errors import (
    BadTask,
    EnvironmentDied,
    EnvironmentHung,
    EnvironmentsError,
    MissingDependency,
    NotPlaying,
    UnknownEnvironment,
)
from environments.worker import format_error
from memory.errors import MemoryStoreError
from memory.records import ErrorKind
from trainers.errors import TrainersError

# The first that fits counts.
_KINDS: dict[type[Exception], ErrorKind] = {
    EnvironmentHung: "timeout",
    EnvironmentDied: "environment",
    EngineFailed: "engine",
    ActorFailed: "actor",
    ReflectorFailed: "reflector",
    ReplayMismatch: "replay",
}
FAILURES = tuple(_KINDS)
SHARED: tuple[ErrorKind, ...] = ("engine", "actor", "reflector")
"""Failures of what all episodes of a run have in common."""

IN_A_ROW = 10
"""So many failures of one kind of `SHARED`, one after the other and for one and the same reason, end a run."""

End = tuple[str | None, ErrorKind | None]
"""How an episode or a search ended: its error and the kind of that; None if it did not fail."""

_OF_THE_RUN = (
    BadTask, MissingDependency, NotPlaying, UnknownEnvironment, AgentLabError, MemoryStoreError, TrainersError,
)  # fmt: skip
# An engine and a reflector may read the lab; a database that an environment has is its own.
_OF_THE_LAB = (EnvironmentsError, sqlite3.Error, *_OF_THE_RUN)


def kind_of(failure: Exception) -> ErrorKind:
    """Which kind of failure one of `FAILURES` is."""
    return next(kind for base, kind in _KINDS.items() if isinstance(failure, base))


class Streak:
    """Counts, in all threads of a run, what failed alike one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason, self._same = "", 0

    def count(self, error: str | None, kind: ErrorKind | None) -> None:
        """Note how one more ended.

        Raises RunFailed at the last of `IN_A_ROW` that failed for the same reason: the others would, too.
        """
        if error is not None and kind not in SHARED:
            return  # it says nothing about what they share
        # The reason without its details, which may differ.
        reason = (error or "").partition(":")[0]
        with self._lock:
            self._same = self._same + 1 if reason and reason == self._reason else int(bool(reason))
            self._reason = reason
            if self._same >= IN_A_ROW:
                raise RunFailed(
                    f"{self._same} in a row failed alike, so the run was stopped: {error} What was played is kept."
                )


def refuse_all_failed(ends: Iterable[End]) -> None:
    """Raise RunFailed if all of these failed, one at least of what they share: that says nothing about the games."""
    known = list(ends)
    shared = [error for error, kind in known if kind in SHARED]
    if shared and all(error is not None for error, _ in known):
        raise RunFailed(f"All {len(known)} failed, so the run was stopped: {shared[0]} What was played is kept.")


@contextmanager
def environment(env_id: str) -> Iterator[None]:
    """Turn what an environment raises into EnvironmentDied, which names it."""
    try:
        yield
    except (EnvironmentDied, *_OF_THE_RUN):
        raise
    except EnvironmentsError as error:
        raise EnvironmentDied(f"The environment `{env_id}` failed: {format_error(error)}") from error
    except Exception as error:
        raise EnvironmentDied(
            f"The environment `{env_id}` failed with {_words(error)}; `agentlab doctor` checks the environment."
        ) from error


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Turn what an engine raises into EngineFailed."""
    try:
        yield
    except _OF_THE_LAB:
        raise
    except Exception as error:
        raise EngineFailed(f"The engine `{name}` failed with {_words(error)}; the same command tries again.") from error


@contextmanager
def actor(name: str) -> Iterator[None]:
    """Turn what an actor raises into ActorFailed."""
    try:
        yield
    except _OF_THE_LAB:
        raise
    except Exception as error:
        raise ActorFailed(f"The actor `{name}` failed with {_words(error)}; the same command tries again.") from error


@contextmanager
def reflector(name: str) -> Iterator[None]:
    """Turn what a reflector raises into ReflectorFailed."""
    try:
        yield
    except _OF_THE_LAB:
        raise
    except Exception as error:
        raise ReflectorFailed(
            f"The reflector `{name}` failed with {_words(error)}; the same command tries again."
        ) from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {format_error(error)}" if format_error(error) else type(error).__name__
