"""Engines for a workspace, as its settings say where its models run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agentlab.engines import hub

if TYPE_CHECKING:
    from agentlab.engines.base import Engine
    from agentlab.workspace.workspace import Workspace


def served(workspace: Workspace) -> Engine:
    """The base model on a vLLM server."""
    from agentlab.engines.vllm import VllmEngine

    config = workspace.config
    return VllmEngine(
        workspace.model_folder,
        name=config.model,
        server=config.server,
        key=os.environ.get("VLLM_API_KEY", ""),
        dtype=config.dtype,
        context=config.context,
        prompt=config.prompt,
        log=workspace.folder / "vllm.log",
        say=workspace.progress.say,
    )


def loaded(workspace: Workspace, name: str, server: str = "") -> Engine:
    """A model in this process, or behind an API (at `server`, where that is given)."""
    config = workspace.config
    if hub.behind_api(name):
        from agentlab.engines.chat import ChatEngine

        return ChatEngine(name, server=server, price=config.chat.price, patience=config.chat.patience)
    folder = hub.resolve(name, say=workspace.progress.say)
    # Before the imports, which take the most of it.
    workspace.progress.say(f"Loading the model {name}.")
    from agentlab.engines.transformers import TransformersEngine

    return TransformersEngine(
        folder,
        name=name,
        dtype=config.dtype,
        context=config.context,
        threads=workspace.threads,
        prompt=config.prompt,
    )
