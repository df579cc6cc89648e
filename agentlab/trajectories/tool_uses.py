"""What the tools of an environment were in the game that it played last."""

from __future__ import annotations

from environments import TextEnv
from environments.tools import WithTools
from memory.credit import Assignment
from memory.records import ToolUse


def tool_uses(env: TextEnv, lot: Assignment | None = None) -> list[ToolUse]:
    """For each tool how often it was offered and called, with the `lot` that was drawn over one of them; none for an
    environment without tools."""
    if not isinstance(env, WithTools):
        return []
    return [
        ToolUse(
            tool=name,
            steps=use.steps,
            proposed=use.proposed,
            made=use.made,
            held_out=lot.held_out if lot is not None and lot.reflection == name else False,
            propensity=lot.propensity if lot is not None and lot.reflection == name else 1.0,
        )
        for name, use in list(env.uses.items())
    ]
