"""Tools as commands: a game that also offers calls, whose answers are observations (`twx/sorting?tools=sort`)."""

from __future__ import annotations

from environments.tools.base import Call, Seen, Tool
from environments.tools.langchain import LangChainTool
from environments.tools.recall import Recall
from environments.tools.shelf import register_tool, tool, tool_names, unregister_tool
from environments.tools.wrapper import Use, WithTools

__all__ = [
    "Call",
    "LangChainTool",
    "Recall",
    "Seen",
    "Tool",
    "Use",
    "WithTools",
    "register_tool",
    "tool",
    "tool_names",
    "unregister_tool",
]
