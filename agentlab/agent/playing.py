"""How a lab's model plays, as its settings say: who decides, and how the model reads a game."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlab.agent.actors import Actor, Prompted, RankingActor
from agentlab.agent.writing import WritingActor
from memory.prompts import Prompting

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

RANKING = {"actor": "rank", "think": 0, "samples": 1, "prompt": "auto"}
"""The settings by which a lab's model plays, as they are where it ranks on the plain transcript."""


def actor_of(workspace: Workspace) -> Actor | None:
    """Who plays in a lab; None for the one that ranks on the plain transcript."""
    config = workspace.config
    if config.actor == "write":
        return WritingActor(think=config.think, samples=config.samples, chat=config.prompt != "transcript")
    # Its name tells its episodes from those on the transcript; the engine reads a chat by itself where that is set.
    return RankingActor(name="ranking, chat") if config.prompt == "chat" else None


def playing_of(workspace: Workspace) -> dict[str, Any]:
    """How a lab's model plays, to be kept beside what was measured of it; nothing where it is as usual."""
    if actor_of(workspace) is None:
        return {}
    return {name: getattr(workspace.config, name) for name in RANKING}


def asked_prompting(workspace: Workspace) -> Prompting | None:
    """How the lab's model is asked to read a game; None where it ranks."""
    actor = actor_of(workspace)
    return actor.prompting if isinstance(actor, Prompted) else None


def prompting_of(workspace: Workspace) -> Prompting:
    """How the lab's model reads a game, which its template may not allow as asked."""
    conversation = workspace.model(None).conversation("", "", asked_prompting(workspace))
    conversation.close()
    return conversation.prompting
