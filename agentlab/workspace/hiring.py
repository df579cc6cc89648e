"""Workers for a lab: processes that each play over a copy of it, with an engine of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlab import tracing
from agentlab.errors import BadConfig
from agentlab.workers import Workers, workers_of
from agentlab.workspace.environments import BROUGHT_IN

if TYPE_CHECKING:
    from agentlab.workspace.config import LabConfig

PLAYER = "agentlab.agent.player:Player"
"""Whom each holds, by name: it is of a floor above."""


def hired(config: LabConfig, asked: str) -> Workers:
    """The workers that are asked for (see `workers_of`). They are started when the first episode is to be played.

    Raises BadConfig for what names no workers and where the settings let none play, MissingPackage without Ray.
    """
    if config.engine == "vllm" and not config.server:
        raise BadConfig(
            "A vLLM server that the lab starts itself plays many games at once as it is; leave out the workers, or "
            "give the address of a server that all of them reach (--server URL)."
        )
    return workers_of(asked, (PLAYER, (tuple(BROUGHT_IN), tracing.goes_to())), config.threads or None)
