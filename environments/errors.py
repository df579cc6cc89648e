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
    """An environment failed in the middle of an episode, which is lost.

    `bystander` is true if another environment's call met the death of a process that both use before.
    """

    def __init__(self, message: str, *, bystander: bool = False) -> None:
        super().__init__(message)
        self.bystander = bystander


class EnvironmentHung(EnvironmentDied):
    """An environment did not answer within its time. It is of no further use."""


class BadAnswer(EnvironmentDied):
    """An environment answered with something that no game can be played by, such as a reward that is not a number.

    `field` names what was wrong: a field of `Turn`, or the key of the info dictionary of a wrapped environment.
    """

    def __init__(self, env_id: str, field: str, what: str) -> None:
        super().__init__(
            f"The environment `{env_id}` answered with `{field}` {what}; correct it there "
            "(`environments.check` looks for such)."
        )
        self.field = field


class ContractViolation(EnvironmentsError):
    """An environment does not keep the rules that `environments.check` tests."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`Did you mean `x`?` when something known is close to `wrong`, else a list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known are {', '.join(f'`{name}`' for name in names)}" if names else "there are none"
