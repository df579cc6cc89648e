"""The page Tools: what was learned to call when, and what each tool is worth."""

from __future__ import annotations

from agentlab.views.tools import has_tools, tools
from agentlab.web.page import Page, Tab

TAB = Tab("Tools", "tools", has_tools)

TOOLS = Page(
    "/tools",
    "tools.html",
    lambda lab, _: tools(lab),
    TAB,
    lambda _: "Tools",
    lambda lab: ({},) if has_tools(lab) else (),
)
