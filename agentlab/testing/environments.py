"""The conformance of an environment."""

from __future__ import annotations

from collections.abc import Callable

from agentlab.testing.report import Finding, Report
from environments import TextEnv
from environments.check import check


def check_environment(target: str | Callable[[], TextEnv], *, episodes: int = 4) -> Report:
    """Play an environment (its id, or what makes one) at random, and compare it with its contract."""
    found = check(target, episodes=episodes)
    return Report(
        found.env_id,
        [
            Finding(rule.detail if rule.ok else rule.rule, rule.ok, "" if rule.ok else rule.detail)
            for rule in found.findings
        ],
    )
