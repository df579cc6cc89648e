"""What can go wrong in an environment. Every message is one line: what; why; what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EnvironmentsError(Exception):
    """Base of all errors of this package; its text is the complete one-line message."""


class UnknownEnvironment(EnvironmentsError):
    """No environment has this id."""


class BadParameter(EnvironmentsError):
    """A parameter of an environment is unknown, or its value is not allowed."""


class BadTask(EnvironmentsError):
    """A task names a fold or a seed that its environment does not have."""


class NotPlaying(EnvironmentsError):
    """`step` was called before `reset`, or after the end of the episode."""


class MissingDependency(EnvironmentsError):
    """Something that is installed separately is absent; the message holds the command that installs it."""


class EnvironmentDied(EnvironmentsError):
    """The process behind an environment died or hung in the middle of an episode; the next `reset` starts a new one.

    `bystander` is true if another environment's call met the death before.
    """

    def __init__(self, message: str, *, bystander: bool = False) -> None:
        super().__init__(message)
        self.bystander = bystander


class ContractViolation(EnvironmentsError):
    """An environment does not keep the rules that `environments.check` tests."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`Did you mean `x`?` when something known is close to `wrong`, else a list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known are {', '.join(f'`{name}`' for name in names)}" if names else "there are none"
