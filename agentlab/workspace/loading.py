"""Engines as a lab's settings say where its models run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agentlab.engines import hub

if TYPE_CHECKING:
    from agentlab.engines.base import Engine
    from agentlab.workspace.config import LabConfig

Say = Callable[[str], None]


def served(config: LabConfig, log: Path, say: Say) -> Engine:
    """The base model on a vLLM server, which writes into `log` if it is the lab's own."""
    from agentlab.engines.vllm import VllmEngine

    return VllmEngine(
        hub.resolve(config.model, say=say),
        name=config.model,
        server=config.server,
        key=os.environ.get("VLLM_API_KEY", ""),
        dtype=config.dtype,
        context=config.context,
        prompt=config.prompt,
        log=log,
        say=say,
    )


def loaded(config: LabConfig, name: str, threads: int, say: Say, server: str = "") -> Engine:
    """A model in this process with so many processor threads, or behind an API (at `server`, where that is given)."""
    if hub.behind_api(name):
        from agentlab.engines.chat import ChatEngine

        return ChatEngine(name, server=server, price=config.chat.price, patience=config.chat.patience)
    folder = hub.resolve(name, say=say)
    # Before the imports, which take the most of it.
    say(f"Loading the model {name}.")
    from agentlab.engines.transformers import TransformersEngine

    return TransformersEngine(
        folder,
        name=name,
        dtype=config.dtype,
        context=config.context,
        threads=threads,
        prompt=config.prompt,
        gather=config.gather,
    )
