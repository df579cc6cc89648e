"""AgentLab: an agent plays text environments, remembers what it learned, and distils its successes into LoRA weights.

The names below are loaded when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before PyTorch is loaded, which reads it then: a thread that waits for another one sleeps. Otherwise it goes round and
# keeps the processor from whom it waits for, on any machine that has anything else to do (benchmarks/waiting.py).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from agentlab.agent.actors import Actor, View
    from agentlab.agent.arms import Arm, RecallConfig
    from agentlab.agent.policy import Policy
    from agentlab.engines.base import Adapter, ScoreRequest, Scores, WriteRequest, Writing
    from agentlab.engines.model import Model
    from agentlab.errors import AgentLabError
    from agentlab.experiments.evaluation import Table
    from agentlab.lab import Lab
    from agentlab.reflectors.base import Reflector, reflection_of
    from agentlab.rounds import RoundConfig, RoundReport
    from agentlab.trajectories.transition import Decision
    from agentlab.workspace.config import LabConfig
    from environments import Task, TextEnv, make, register
    from memory import Episode, Reflection, ReflectionMemory

__all__ = [
    # The lab and what is done in it
    "Lab",
    "LabConfig",
    "RoundConfig",
    "RoundReport",
    "Table",
    # How an agent plays
    "Arm",
    "Policy",
    "RecallConfig",
    # Actors and engines of one's own
    "Actor",
    "Adapter",
    "Decision",
    "Model",
    "ScoreRequest",
    "Scores",
    "View",
    "WriteRequest",
    "Writing",
    # What can be acted in
    "Task",
    "TextEnv",
    "make",
    "register",
    # What was lived and learned
    "Episode",
    "Reflection",
    "ReflectionMemory",
    "Reflector",
    "reflection_of",
    # What can go wrong
    "AgentLabError",
]

_HOMES = {
    "agentlab.lab": ("Lab",),
    "agentlab.workspace.config": ("LabConfig",),
    "agentlab.rounds": ("RoundConfig", "RoundReport"),
    "agentlab.experiments.evaluation": ("Table",),
    "agentlab.agent.arms": ("Arm", "RecallConfig"),
    "agentlab.agent.policy": ("Policy",),
    "agentlab.agent.actors": ("Actor", "View"),
    "agentlab.engines.base": ("Adapter", "ScoreRequest", "Scores", "WriteRequest", "Writing"),
    "agentlab.engines.model": ("Model",),
    "agentlab.trajectories.transition": ("Decision",),
    "agentlab.reflectors.base": ("Reflector", "reflection_of"),
    "agentlab.errors": ("AgentLabError",),
    "environments": ("Task", "TextEnv", "make", "register"),
    "memory": ("Episode", "Reflection", "ReflectionMemory"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'agentlab' has no attribute '{name}'")
