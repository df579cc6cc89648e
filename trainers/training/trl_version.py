"""Whether TRL is here, in the version by which this trains on-policy."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from trainers.errors import MissingDependency

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
