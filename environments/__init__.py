"""What can be acted in: text environments with one interface, seeded folds and a contract that is checked.

The names are loaded when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from environments.base import SPLITS, AnyText, Info, Split, Task, TextEnv, Turn
    from environments.check import Finding, Report, check_or_raise
    from environments.errors import (
        BadAnswer,
        BadParameter,
        BadTask,
        ContractViolation,
        EnvironmentDied,
        EnvironmentHung,
        EnvironmentsError,
        MissingDependency,
        NotPlaying,
        UnknownEnvironment,
    )
    from environments.gym import GymTextEnv
    from environments.parameters import Game, Parameter
    from environments.registry import (
        Family,
        canonical,
        easier,
        environment_ids,
        families,
        games,
        make,
        register,
        unregister,
    )
    from environments.worker import dispose

__all__ = [
    # The interface
    "TextEnv",
    "Task",
    "Turn",
    "Info",
    "Split",
    "SPLITS",
    "AnyText",
    # Environments by id
    "make",
    "canonical",
    "easier",
    "environment_ids",
    "families",
    "games",
    "Family",
    "Game",
    "Parameter",
    "register",
    "unregister",
    "dispose",
    # Environments of others
    "GymTextEnv",
    # The contract (the function `check` itself is in the module of that name)
    "check_or_raise",
    "Report",
    "Finding",
    # Errors
    "EnvironmentsError",
    "UnknownEnvironment",
    "BadParameter",
    "BadTask",
    "NotPlaying",
    "MissingDependency",
    "EnvironmentDied",
    "EnvironmentHung",
    "BadAnswer",
    "ContractViolation",
]

_HOMES = {
    "base": ("TextEnv", "Task", "Turn", "Info", "Split", "SPLITS", "AnyText"),
    "registry": (
        "make",
        "canonical",
        "easier",
        "environment_ids",
        "families",
        "games",
        "Family",
        "register",
        "unregister",
    ),
    "parameters": ("Game", "Parameter"),
    "gym": ("GymTextEnv",),
    "check": ("check_or_raise", "Report", "Finding"),
    "errors": (
        "EnvironmentsError",
        "UnknownEnvironment",
        "BadParameter",
        "BadTask",
        "NotPlaying",
        "MissingDependency",
        "EnvironmentDied",
        "EnvironmentHung",
        "BadAnswer",
        "ContractViolation",
    ),
    "worker": ("dispose",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `environments` has no attribute `{name}`")
    value = getattr(import_module(f"environments.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
