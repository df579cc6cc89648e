"""The page Home."""

from __future__ import annotations

from agentlab.views.home import home
from agentlab.web.page import Page, Tab

HOME = Page("/", "home.html", lambda lab, _: home(lab), Tab("Home", "home"), lambda view: "Home")
